# frozen_string_literal: true

# Which secrets a Ruby extension reads from what the sidecar delivers: the whole of one, standard library only.
#
# Follows the Kiket Ruby SDK (gem kiket-sdk): `context[:secret].call` is payload secrets, then the environment; routes and
# answers of kiket_sdk.rb and responses.rb; the signature of auth.rb, bare hex over "<timestamp>.<body>", 300 seconds.

require 'digest'
require 'json'
require 'openssl'
require 'socket'

WINDOW_SECONDS = 300

# What this organization has set, else the extension's own default. An empty text is none.
def secret_helper(payload)
  secrets = payload.fetch('secrets', {})
  ->(key) { [secrets[key.to_s], ENV.fetch(key.to_s, nil)].find { |value| !value.to_s.empty? } }
end

# Whether the body is the sidecar's, and of now. Over the bytes that came, before anything is parsed.
def signed?(body, headers)
  timestamp = headers.fetch('x-kiket-timestamp', '')
  return false unless timestamp.match?(/\A[0-9]{1,12}\z/) && (Time.now.to_i - timestamp.to_i).abs <= WINDOW_SECONDS

  expected = OpenSSL::HMAC.hexdigest('SHA256', ENV.fetch('KIKET_WEBHOOK_SECRET'), "#{timestamp}.".b + body)
  OpenSSL.secure_compare(expected, headers.fetch('x-kiket-signature', ''))
end

# The extension itself: works with what it has, and says what it lacks.
def issue_created(payload, context)
  keys = %w[CRM_TOKEN SMTP_HOST SMTP_USERNAME SMTP_PASSWORD]
  values = keys.to_h { |key| [key, context[:secret].call(key)] }
  metadata = {
    # Never a value: whoever dispatches keeps answers.
    read: values.compact.transform_values { |value| Digest::SHA256.hexdigest(value) },
    reported: payload.dig('secret_status', 'missing') || []
  }
  unset = keys.select { |key| values[key].nil? }
  return { status: 'allow', metadata: metadata } if unset.empty?

  { status: 'pending', message: "not configured yet: #{unset.join(', ')}", metadata: metadata }
end

HANDLERS = { %w[issue.created v1] => method(:issue_created) }.freeze

def handle(path, headers, body)
  return [401, { error: 'invalid signature' }] unless signed?(body, headers)

  route = %r{\A(?:/v/(?<version>[^/]+))?/webhooks/(?<event>[^/?]+)(?:\?.*)?\z}.match(path)
  version = route && (route[:version] || headers['x-kiket-event-version'])
  handler = route && HANDLERS[[route[:event], version]]
  return [version ? 404 : 400, { error: 'no handler for this event and version' }] unless handler

  payload = JSON.parse(body)
  [200, handler.call(payload, { event: route[:event], secret: secret_helper(payload) })]
end

# Ruby brings no HTTP server any more; this is as much of one as a webhook needs.
def serve(client)
  path = client.gets.to_s.split[1]
  headers = {}
  while (line = client.gets&.chomp) && !line.empty?
    name, value = line.split(':', 2)
    headers[name.downcase] = value.to_s.strip
  end
  status, document = handle(path, headers, client.read(headers.fetch('content-length', 0).to_i) || '')
  body = document.to_json
  client.write("HTTP/1.1 #{status} -\r\nContent-Type: application/json\r\n" \
               "Content-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}")
ensure
  client.close
end

server = TCPServer.new(ENV.fetch('HOST', '127.0.0.1'), ENV.fetch('PORT', '0').to_i)
$stdout.puts("listening on #{server.addr[1]}")
$stdout.flush
loop { Thread.new(server.accept) { |client| serve(client) } }
