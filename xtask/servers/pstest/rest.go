package main

import (
	"encoding/json"
	"net/http"
	"strings"

	"connectrpc.com/vanguard"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
)

// jsonCodec leaves out what is not set, as Google does, and passes over fields that the protos of
// this version do not know.
func jsonCodec(types vanguard.TypeResolver) vanguard.Codec {
	return &vanguard.JSONCodec{
		MarshalOptions:   protojson.MarshalOptions{Resolver: types},
		UnmarshalOptions: protojson.UnmarshalOptions{Resolver: types, DiscardUnknown: true},
	}
}

// googleREST gives HTTP/JSON the form that Google's clients expect where Vanguard's differs.
func googleREST(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			next.ServeHTTP(w, r)
			return
		}
		dropSystemParameters(r)
		errors := &errorWriter{ResponseWriter: w}
		next.ServeHTTP(errors, r)
		errors.finish()
	})
}

// dropSystemParameters takes parameters such as `$alt=json;enum-encoding=int` out of the query:
// they belong to no message. Enums are answered by name, which every client reads as well.
func dropSystemParameters(r *http.Request) {
	query := r.URL.Query()
	for name := range query {
		if strings.HasPrefix(name, "$") || name == "alt" {
			query.Del(name)
		}
	}
	r.URL.RawQuery = query.Encode()
}

// errorWriter holds back the body of an error to put it into Google's envelope.
type errorWriter struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (w *errorWriter) WriteHeader(status int) {
	if status < http.StatusBadRequest {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.status = status
}

func (w *errorWriter) Write(part []byte) (int, error) {
	if w.status == 0 {
		return w.ResponseWriter.Write(part)
	}
	w.body = append(w.body, part...)
	return len(part), nil
}

// Flush is what streamed answers need.
func (w *errorWriter) Flush() {
	if flusher, ok := w.ResponseWriter.(http.Flusher); ok && w.status == 0 {
		flusher.Flush()
	}
}

func (w *errorWriter) finish() {
	if w.status == 0 {
		return
	}
	var inner struct {
		Code    codes.Code        `json:"code"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details"`
	}
	if json.Unmarshal(w.body, &inner) != nil || inner.Code == codes.OK {
		// Not a status, such as the answer to a path that stands for no call.
		inner.Code = codes.Unknown
		if w.status == http.StatusNotFound {
			inner.Code = codes.NotFound
		}
		inner.Message = strings.TrimSpace(string(w.body))
	}
	envelope := map[string]any{
		"code":    w.status,
		"message": inner.Message,
		"status":  names[inner.Code],
	}
	if len(inner.Details) > 0 {
		envelope["details"] = inner.Details
	}
	answer, err := json.Marshal(map[string]any{"error": envelope})
	if err != nil {
		answer = []byte(err.Error())
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Del("Content-Length")
	header.Del("Content-Encoding")
	w.ResponseWriter.WriteHeader(w.status)
	_, _ = w.ResponseWriter.Write(answer)
}

// names are the codes as Google's JSON spells them.
var names = map[codes.Code]string{
	codes.Canceled:           "CANCELLED",
	codes.Unknown:            "UNKNOWN",
	codes.InvalidArgument:    "INVALID_ARGUMENT",
	codes.DeadlineExceeded:   "DEADLINE_EXCEEDED",
	codes.NotFound:           "NOT_FOUND",
	codes.AlreadyExists:      "ALREADY_EXISTS",
	codes.PermissionDenied:   "PERMISSION_DENIED",
	codes.ResourceExhausted:  "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION",
	codes.Aborted:            "ABORTED",
	codes.OutOfRange:         "OUT_OF_RANGE",
	codes.Unimplemented:      "UNIMPLEMENTED",
	codes.Internal:           "INTERNAL",
	codes.Unavailable:        "UNAVAILABLE",
	codes.DataLoss:           "DATA_LOSS",
	codes.Unauthenticated:    "UNAUTHENTICATED",
}
