// Command streams is the server of the long-lived protocols in the container of
// the protocol tests: WebSocket, server-sent events and uploads on port 80, gRPC
// on port 90. None of them is mocked, and none knows that there is a proxy.
package main

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// largest is the largest message taken in either direction.
const largest = 64 << 20

func main() {
	log.SetFlags(0)
	id := rand.Text()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	mux := http.NewServeMux()
	mux.HandleFunc("/websocket", echo)
	mux.HandleFunc("/hash", hash)
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) { events(w, r, id) })
	failed := make(chan error)
	go func() {
		server := http.Server{Addr: ":80", Handler: mux, ReadHeaderTimeout: time.Minute}
		failed <- server.ListenAndServe()
	}()
	go func() {
		l, err := net.Listen("tcp", ":90") //nolint:gosec // the container has nothing else
		if err != nil {
			failed <- err
			return
		}
		server := grpc.NewServer(grpc.MaxRecvMsgSize(largest))
		testgrpc.RegisterTestServiceServer(server, &calls{})
		failed <- server.Serve(l)
	}()
	select {
	case err := <-failed:
		log.Fatal(err)
	case <-term:
	}
}

// echo sends every message of a WebSocket back as it came; a text that is a
// duration after that time. At "close" it closes the connection.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow() //nolint:errcheck // the client has gone, or has said why
	c.SetReadLimit(largest)
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(data) == "close" {
			_ = c.Close(websocket.StatusNormalClosure, "")
			return
		}
		if pause, err := time.ParseDuration(string(data)); kind == websocket.MessageText && err == nil {
			time.Sleep(pause)
		}
		if err := c.Write(r.Context(), kind, data); err != nil {
			return
		}
	}
}

// hash answers with the SHA-256 of what is uploaded.
func hash(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%x", sum.Sum(nil))
}

// events sends an event, the start id, whenever the time of ?every= has passed.
func events(w http.ResponseWriter, r *http.Request, id string) {
	every, err := time.ParseDuration(r.FormValue("every"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	for n := 1; ; n++ {
		fmt.Fprintf(w, "id: %d\ndata: %s\n\n", n, id)
		if flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(every):
		}
	}
}

// calls is the service of gRPC's own interoperability tests, as far as these
// tests ask for it.
type calls struct {
	testgrpc.UnimplementedTestServiceServer
}

// FullDuplexCall answers each request with its payload, once for each response
// that the request describes, after the interval given there.
func (*calls) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	for {
		request, err := s.Recv()
		if err != nil {
			return nil //nolint:nilerr // the end of the stream
		}
		for _, p := range request.GetResponseParameters() {
			select {
			case <-s.Context().Done():
				return s.Context().Err()
			case <-time.After(time.Duration(p.GetIntervalUs()) * time.Microsecond):
			}
			if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: request.GetPayload()}); err != nil {
				return err
			}
		}
	}
}

// StreamingInputCall counts the bytes of a stream of requests.
func (*calls) StreamingInputCall(s testgrpc.TestService_StreamingInputCallServer) error {
	var size int32
	for {
		request, err := s.Recv()
		if err != nil {
			return s.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		size += int32(len(request.GetPayload().GetBody()))
	}
}
