// Which secrets a Node.js extension reads from what the sidecar delivers: the whole of one, standard library only.
//
// Follows the Kiket Node.js SDK (package @kiket-dev/sdk): `context.secret` of its types.ts, which is payload secrets, then
// the environment; routes and answers of sdk.ts and responses.ts. `context.secrets.get` is the document's older way. In
// the SDK it asks the Secret Store's API, which never tells a value (404, or 403 plaintext-never-returned), so that here
// it reads the delivery, as the document promises. Signature: bare hex over "<timestamp>.<body>", 300 seconds.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const WINDOW_SECONDS = 300;

/** What this organization has set, else the extension's own default. An empty text is none. */
const secretHelper = (payload) => (key) => payload.secrets?.[key] || process.env[key] || undefined;

/** Whether the body is the sidecar's, and of now. Over the bytes that came, before anything is parsed. */
function isSigned(body, headers) {
  const timestamp = headers['x-kiket-timestamp'] ?? '';
  const signature = Buffer.from(headers['x-kiket-signature'] ?? '');
  if (!/^[0-9]{1,12}$/.test(timestamp)) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > WINDOW_SECONDS) return false;
  const hmac = createHmac('sha256', process.env.KIKET_WEBHOOK_SECRET).update(`${timestamp}.`).update(body);
  const expected = Buffer.from(hmac.digest('hex'));
  return expected.length === signature.length && timingSafeEqual(expected, signature);
}

/** The extension itself: works with what it has, and says what it lacks. */
async function issueCreated(payload, context) {
  const keys = ['CRM_TOKEN', 'SMTP_HOST', 'SMTP_USERNAME', 'SMTP_PASSWORD'];
  const read = {}; // never a value: whoever dispatches keeps answers
  for (const key of keys) if (context.secret(key)) read[key] = fingerprint(context.secret(key));
  const metadata = {
    read,
    legacy: fingerprint(await context.secrets.get('CRM_TOKEN')),
    reported: payload.secret_status?.missing ?? [],
  };
  const unset = keys.filter((key) => !context.secret(key));
  if (unset.length > 0) return { status: 'pending', message: `not configured yet: ${unset.join(', ')}`, metadata };
  return { status: 'allow', metadata };
}

const handlers = new Map([['issue.created v1', issueCreated]]);

const fingerprint = (value) => createHash('sha256').update(value).digest('hex');

async function handle(request, body) {
  if (!isSigned(body, request.headers)) return [401, { error: 'invalid signature' }];
  const path = new URL(request.url, 'http://receiver').pathname;
  const route = /^(?:\/v\/([^/]+))?\/webhooks\/([^/]+)$/.exec(path);
  const version = route && (route[1] ?? request.headers['x-kiket-event-version']);
  const handler = route && handlers.get(`${route[2]} ${version}`);
  if (!handler) return [version ? 404 : 400, { error: 'no handler for this event and version' }];
  const payload = JSON.parse(body);
  const secret = secretHelper(payload);
  return [200, await handler(payload, { event: route[2], secret, secrets: { get: async (key) => secret(key) ?? null } })];
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', async () => {
    const [status, document] = await handle(request, Buffer.concat(chunks));
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(document));
  });
});
server.listen(Number(process.env.PORT ?? 0), process.env.HOST ?? '127.0.0.1', () => {
  console.log(`listening on ${server.address().port}`);
});
