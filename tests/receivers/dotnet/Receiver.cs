// Which secrets a .NET extension reads from what the sidecar delivers: the whole of one, ASP.NET Core only.
//
// Follows the Kiket .NET SDK (Kiket.SDK): HandlerContext.Secret is payload secrets, then the environment; routes and
// answers of KiketSDK and ExtensionResponse; the signature of WebhookAuth, bare hex over "<timestamp>.<body>", 300 seconds.

using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

var host = Environment.GetEnvironmentVariable("HOST") ?? "127.0.0.1";
var port = Environment.GetEnvironmentVariable("PORT") ?? "0";
var builder = WebApplication.CreateSlimBuilder(args);
builder.Logging.ClearProviders(); // nothing of a request belongs into a log
builder.WebHost.UseUrls($"http://{host}:{port}");
var app = builder.Build();
app.MapPost("/webhooks/{name}", (string name, HttpRequest request) =>
    Receiver.Handle(name, request.Headers["X-Kiket-Event-Version"].FirstOrDefault(), request));
app.MapPost("/v/{version}/webhooks/{name}", (string version, string name, HttpRequest request) =>
    Receiver.Handle(name, version, request));
await app.StartAsync();
Console.WriteLine($"listening on {new Uri(app.Urls.First()).Port}");
await app.WaitForShutdownAsync();

/// What a handler is given beside the payload.
internal sealed record Context(string Event, JsonObject PayloadSecrets)
{
    /// What this organization has set, else the extension's own default. An empty text is none.
    public string? Secret(string key)
    {
        var value = PayloadSecrets[key]?.GetValue<string>();
        if (string.IsNullOrEmpty(value))
        {
            value = Environment.GetEnvironmentVariable(key);
        }
        return string.IsNullOrEmpty(value) ? null : value;
    }
}

internal static class Receiver
{
    private const long WindowSeconds = 300;

    private static readonly Dictionary<(string, string), Func<JsonObject, Context, object>> Handlers = new()
    {
        [("issue.created", "v1")] = IssueCreated,
    };

    /// The extension itself: works with what it has, and says what it lacks.
    private static object IssueCreated(JsonObject payload, Context context)
    {
        string[] keys = ["CRM_TOKEN", "SMTP_HOST", "SMTP_USERNAME", "SMTP_PASSWORD"];
        var unset = keys.Where(key => context.Secret(key) is null).ToArray();
        var metadata = new
        {
            // Never a value: whoever dispatches keeps answers.
            read = keys.Except(unset).ToDictionary(key => key, key => Fingerprint(context.Secret(key)!)),
            reported = payload["secret_status"]?["missing"]?.AsArray().Select(key => key!.GetValue<string>()) ?? [],
        };
        return unset.Length == 0
            ? new { status = "allow", metadata }
            : new { status = "pending", message = $"not configured yet: {string.Join(", ", unset)}", metadata };
    }

    internal static async Task<IResult> Handle(string name, string? version, HttpRequest request)
    {
        using var buffer = new MemoryStream();
        await request.Body.CopyToAsync(buffer);
        var body = buffer.ToArray();
        if (!IsSigned(body, request.Headers))
        {
            return Results.Json(new { error = "invalid signature" }, statusCode: 401);
        }
        if (version is null || !Handlers.TryGetValue((name, version), out var handler))
        {
            var status = version is null ? 400 : 404;
            return Results.Json(new { error = "no handler for this event and version" }, statusCode: status);
        }
        var payload = JsonNode.Parse(body)!.AsObject();
        var context = new Context(name, payload["secrets"]?.AsObject() ?? new JsonObject());
        return Results.Json(handler(payload, context));
    }

    /// Whether the body is the sidecar's, and of now. Over the bytes that came, before anything is parsed.
    private static bool IsSigned(byte[] body, IHeaderDictionary headers)
    {
        var timestamp = headers["X-Kiket-Timestamp"].FirstOrDefault() ?? "";
        var signature = headers["X-Kiket-Signature"].FirstOrDefault() ?? "";
        if (!long.TryParse(timestamp, out var seconds)
            || Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - seconds) > WindowSeconds)
        {
            return false;
        }
        var key = Encoding.UTF8.GetBytes(Environment.GetEnvironmentVariable("KIKET_WEBHOOK_SECRET")!);
        byte[] signed = [.. Encoding.UTF8.GetBytes(timestamp + "."), .. body];
        var expected = Convert.ToHexString(HMACSHA256.HashData(key, signed)).ToLowerInvariant();
        return CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(expected), Encoding.UTF8.GetBytes(signature));
    }

    private static string Fingerprint(string value) =>
        Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(value))).ToLowerInvariant();
}
