// Which secrets a Go extension reads from what the sidecar delivers: the whole of one, standard library only.
//
// Follows the Kiket Go SDK (package kiket): HandlerContext.Secret of types.go is payload secrets, then the environment;
// routes and answers of sdk.go and responses.go. Its auth.go verifies the runtime token and no signature; this verifies
// what the sidecar signs: bare hex over "<timestamp>.<body>", 300 seconds.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const window = 300 * time.Second

var route = regexp.MustCompile(`^(?:/v/([^/]+))?/webhooks/([^/]+)$`)

type payload struct {
	Secrets      map[string]string `json:"secrets"`
	SecretStatus struct {
		Missing []string `json:"missing"`
	} `json:"secret_status"`
}

type handlerContext struct {
	event          string
	payloadSecrets map[string]string
}

// Secret is what this organization has set, else the extension's own default. An empty text is none.
func (c *handlerContext) Secret(key string) string {
	if value := c.payloadSecrets[key]; value != "" {
		return value
	}
	return os.Getenv(key)
}

type response struct {
	Status   string                 `json:"status"`
	Message  string                 `json:"message,omitempty"`
	Metadata map[string]interface{} `json:"metadata"`
}

type handler func(payload, *handlerContext) response

var handlers = map[string]handler{"issue.created v1": issueCreated}

// issueCreated is the extension itself: works with what it has, and says what it lacks.
func issueCreated(p payload, c *handlerContext) response {
	read, unset := map[string]string{}, []string{}
	for _, key := range []string{"CRM_TOKEN", "SMTP_HOST", "SMTP_USERNAME", "SMTP_PASSWORD"} {
		if value := c.Secret(key); value != "" {
			read[key] = fingerprint(value) // never a value: whoever dispatches keeps answers
		} else {
			unset = append(unset, key)
		}
	}
	metadata := map[string]interface{}{"read": read, "reported": p.SecretStatus.Missing}
	if len(unset) > 0 {
		return response{"pending", "not configured yet: " + strings.Join(unset, ", "), metadata}
	}
	return response{"allow", "", metadata}
}

func fingerprint(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// isSigned tells whether the body is the sidecar's, and of now. Over the bytes that came, before anything is parsed.
func isSigned(body []byte, headers http.Header) bool {
	timestamp := headers.Get("X-Kiket-Timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > window {
		return false
	}
	mac := hmac.New(sha256.New, []byte(os.Getenv("KIKET_WEBHOOK_SECRET")))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(headers.Get("X-Kiket-Signature")))
}

func handle(r *http.Request) (int, interface{}) {
	failed := func(text string) interface{} { return map[string]string{"error": text} }
	body, err := io.ReadAll(r.Body)
	if err != nil || !isSigned(body, r.Header) {
		return http.StatusUnauthorized, failed("invalid signature")
	}
	found := route.FindStringSubmatch(r.URL.Path)
	if found == nil {
		return http.StatusNotFound, failed("no such route")
	}
	version, event := found[1], found[2]
	if version == "" {
		version = r.Header.Get("X-Kiket-Event-Version")
	}
	if version == "" {
		return http.StatusBadRequest, failed("an event version is needed")
	}
	handler, isThere := handlers[event+" "+version]
	if !isThere {
		return http.StatusNotFound, failed("no handler for this event and version")
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return http.StatusBadRequest, failed("no JSON")
	}
	return http.StatusOK, handler(p, &handlerContext{event, p.Secrets})
}

func main() {
	host, port := os.Getenv("HOST"), os.Getenv("PORT")
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on %d\n", listener.Addr().(*net.TCPAddr).Port)
	_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, document := handle(r)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(document)
	}))
}
