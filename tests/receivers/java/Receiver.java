// Which secrets a Java extension reads from what the sidecar delivers: the whole of one, `java Receiver.java`.
//
// Follows the Kiket Java SDK (dev.kiket.sdk): HandlerContext.secret is payload secrets, then the environment; routes and
// answers of KiketSDK and ExtensionResponse; the signature of WebhookAuthFilter, bare hex over "<timestamp>.<body>", 300
// seconds. That filter drops line ends before it verifies, so that a body with any never verifies there: take the bytes.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.BiFunction;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Receiver {
    private static final long WINDOW_SECONDS = 300;
    private static final Pattern ROUTE = Pattern.compile("(?:/v/([^/]+))?/webhooks/([^/]+)");
    private static final Map<String, BiFunction<Map<String, Object>, Context, Map<String, Object>>> HANDLERS =
        Map.of("issue.created v1", Receiver::issueCreated);

    /** What a handler is given beside the payload. */
    record Context(String event, Map<String, Object> payloadSecrets) {
        /** What this organization has set, else the extension's own default. An empty text is none. */
        String secret(String key) {
            if (payloadSecrets.get(key) instanceof String value && !value.isEmpty()) {
                return value;
            }
            String value = System.getenv(key);
            return value == null || value.isEmpty() ? null : value;
        }
    }

    /** The extension itself: works with what it has, and says what it lacks. */
    private static Map<String, Object> issueCreated(Map<String, Object> payload, Context context) {
        List<String> keys = List.of("CRM_TOKEN", "SMTP_HOST", "SMTP_USERNAME", "SMTP_PASSWORD");
        Map<String, Object> read = new LinkedHashMap<>(); // never a value: whoever dispatches keeps answers
        keys.stream().filter(key -> context.secret(key) != null)
            .forEach(key -> read.put(key, fingerprint(context.secret(key))));
        Object reported = Json.object(payload.get("secret_status")).getOrDefault("missing", List.of());
        List<String> unset = keys.stream().filter(key -> context.secret(key) == null).toList();
        Map<String, Object> metadata = Map.of("read", read, "reported", reported);
        if (unset.isEmpty()) {
            return Map.of("status", "allow", "metadata", metadata);
        }
        String message = "not configured yet: " + String.join(", ", unset);
        return Map.of("status", "pending", "message", message, "metadata", metadata);
    }

    /** Whether the body is the sidecar's, and of now. Over the bytes that came, before anything is parsed. */
    private static boolean isSigned(byte[] body, String timestamp, String signature) throws GeneralSecurityException {
        if (timestamp == null || signature == null || !timestamp.matches("[0-9]{1,12}")) {
            return false;
        }
        long age = Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(timestamp));
        if (age > WINDOW_SECONDS) {
            return false;
        }
        Mac mac = Mac.getInstance("HmacSHA256");
        byte[] key = System.getenv("KIKET_WEBHOOK_SECRET").getBytes(StandardCharsets.UTF_8);
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        mac.update((timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] expected = HexFormat.of().formatHex(mac.doFinal(body)).getBytes(StandardCharsets.UTF_8);
        return MessageDigest.isEqual(expected, signature.getBytes(StandardCharsets.UTF_8));
    }

    private static String fingerprint(String value) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            return HexFormat.of().formatHex(digest.digest(value.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException absent) {
            throw new IllegalStateException(absent);
        }
    }

    private static void handle(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readAllBytes();
        var headers = exchange.getRequestHeaders();
        var route = ROUTE.matcher(exchange.getRequestURI().getPath());
        int status;
        Object document;
        try {
            if (!isSigned(body, headers.getFirst("X-Kiket-Timestamp"), headers.getFirst("X-Kiket-Signature"))) {
                status = 401;
                document = Map.of("error", "invalid signature");
            } else if (!route.matches()) {
                status = 404;
                document = Map.of("error", "no such route");
            } else {
                String version = Objects.requireNonNullElse(route.group(1),
                    Objects.requireNonNullElse(headers.getFirst("X-Kiket-Event-Version"), ""));
                var handler = HANDLERS.get(route.group(2) + " " + version);
                if (handler == null) {
                    status = version.isEmpty() ? 400 : 404;
                    document = Map.of("error", "no handler for this event and version");
                } else {
                    Map<String, Object> payload = Json.object(Json.parse(new String(body, StandardCharsets.UTF_8)));
                    var context = new Context(route.group(2), Json.object(payload.get("secrets")));
                    status = 200;
                    document = handler.apply(payload, context);
                }
            }
        } catch (GeneralSecurityException | RuntimeException failed) {
            status = 500;
            document = Map.of("error", "failed");
        }
        byte[] answer = Json.write(document).getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, answer.length);
        exchange.getResponseBody().write(answer);
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        String host = Objects.requireNonNullElse(System.getenv("HOST"), "127.0.0.1");
        String port = Objects.requireNonNullElse(System.getenv("PORT"), "0");
        HttpServer server = HttpServer.create(new InetSocketAddress(host, Integer.parseInt(port)), 0);
        server.createContext("/", Receiver::handle);
        server.start();
        System.out.println("listening on " + server.getAddress().getPort());
    }
}

/** As much of JSON as a delivery needs: Java's own library has none, and a real extension takes Jackson or Gson. */
final class Json {
    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    static Object parse(String text) {
        return new Json(text).value();
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object value) {
        return value instanceof Map ? (Map<String, Object>) value : Map.of();
    }

    static String write(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream().map(e -> write(e.getKey()) + ":" + write(e.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Json::write).collect(Collectors.joining(",", "[", "]"));
        }
        if (value instanceof String string) {
            return string.codePoints()
                .mapToObj(c -> c < 0x20 || c == '"' || c == '\\' ? String.format("\\u%04x", c) : Character.toString(c))
                .collect(Collectors.joining("", "\"", "\""));
        }
        return String.valueOf(value);
    }

    private char next() {
        while (Character.isWhitespace(text.charAt(at))) {
            at++;
        }
        return text.charAt(at);
    }

    private void comma() {
        if (next() == ',') {
            at++;
        }
    }

    private Object value() {
        switch (next()) {
            case '{': {
                Map<String, Object> map = new LinkedHashMap<>();
                for (at++; next() != '}'; comma()) {
                    String key = string();
                    next();
                    at++; // the colon
                    map.put(key, value());
                }
                at++;
                return map;
            }
            case '[': {
                List<Object> list = new ArrayList<>();
                for (at++; next() != ']'; comma()) {
                    list.add(value());
                }
                at++;
                return list;
            }
            case '"':
                return string();
            default: {
                int from = at;
                while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) {
                    at++;
                }
                String word = text.substring(from, at);
                return switch (word) {
                    case "true" -> true;
                    case "false" -> false;
                    case "null" -> null;
                    default -> Double.valueOf(word);
                };
            }
        }
    }

    private String string() {
        StringBuilder string = new StringBuilder();
        next();
        for (at++; text.charAt(at) != '"'; at++) {
            char c = text.charAt(at);
            if (c == '\\') {
                c = text.charAt(++at);
                if (c == 'u') {
                    c = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                    at += 4;
                } else {
                    int control = "bfnrt".indexOf(c);
                    c = control < 0 ? c : "\b\f\n\r\t".charAt(control);
                }
            }
            string.append(c);
        }
        at++;
        return string.toString();
    }
}
