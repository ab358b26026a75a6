package protocols

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/zerolet/zerolet/test/harness"
)

// silence is longer than the idle time: whoever has an open stream on which
// nothing goes for so long still has the same server.
const silence = 2500 * time.Millisecond

// awake is for after a silence: a stream that is open then may be one that a
// proxy on its way out lets end.
func (s service) awake() {
	s.Helper()
	s.Expect(s.name+"-proxy.service", "active")
}

// A WebSocket: messages of every size come back as they were, one of them
// after a silence.
func webSocket(s service) {
	s.declare("localhost/streams", s.publish(80))
	ctx, cancel := context.WithTimeout(s.Context(), 5*harness.Patience)
	defer cancel()
	for range 2 {
		c, _, err := websocket.Dial(ctx, "ws://"+s.Addr()+"/websocket", &websocket.DialOptions{HTTPClient: s.M.HTTP()})
		if err != nil {
			s.Fatalf("%v\n%s", err, s.LastJournal())
		}
		c.SetReadLimit(-1)
		exchange := func(kind websocket.MessageType, data []byte) {
			s.Helper()
			if err := c.Write(ctx, kind, data); err != nil {
				s.Fatal(err)
			}
			back, got, err := c.Read(ctx)
			if err != nil || back != kind {
				s.Fatalf("message of %d bytes: %v, %v\n%s", len(data), back, err, s.LastJournal())
			}
			s.mustEqual("message", got, data)
		}
		for _, size := range []int{0, 1, 125, 126, 65535, 65536, 4 << 20} {
			exchange(websocket.MessageBinary, random(size))
		}
		exchange(websocket.MessageText, []byte(silence.String()))
		s.awake()
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			s.Errorf("the closing handshake: %v", err)
		}
		s.asleep()
	}
}

// Server-sent events: each comes when it is sent, after a silence, and all of
// them from one start of the server.
func serverSentEvents(s service) {
	s.declare("localhost/streams", s.publish(80))
	ctx, cancel := context.WithTimeout(s.Context(), 5*harness.Patience)
	defer cancel()
	starts := make(map[string]bool)
	for range 2 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/events?every=%s", s.Addr(), silence), nil)
		if err != nil {
			s.Fatal(err)
		}
		answer, err := s.M.HTTP().Do(request) //nolint:bodyclose // below
		if err != nil {
			s.Fatalf("%v\n%s", err, s.LastJournal())
		}
		lines := bufio.NewScanner(answer.Body)
		var events []string
		for len(events) < 3 && lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				events = append(events, data)
			}
		}
		s.awake()
		answer.Body.Close()
		if len(events) < 3 || events[0] != events[1] || events[1] != events[2] {
			s.Errorf("events by start of the server: %q, %v", events, lines.Err())
		}
		starts[strings.Join(events, "")] = true
		s.asleep()
	}
	if len(starts) != 2 {
		s.Errorf("the server has not slept: %v", starts)
	}
}

// gRPC: a stream in both directions that is silent in between, and one of
// large messages to the server, as fast as HTTP/2 lets them go.
func grpcStreams(s service) {
	s.declare("localhost/streams", s.publish(90))
	ctx, cancel := context.WithTimeout(s.Context(), 5*harness.Patience)
	defer cancel()
	for range 2 {
		dial := func(ctx context.Context, _ string) (net.Conn, error) { return s.M.Dial(ctx, "tcp", s.Addr()) }
		c, err := grpc.NewClient("passthrough:///"+s.name, grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
			// Until the server is awake nobody answers: 20 s by default.
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: harness.Patience}))
		if err != nil {
			s.Fatal(err)
		}
		client := testgrpc.NewTestServiceClient(c)
		s.pingPong(ctx, client)
		s.inputCall(ctx, client)
		if err := c.Close(); err != nil {
			s.Error(err)
		}
		s.asleep()
	}
}

func (s service) pingPong(ctx context.Context, client testgrpc.TestServiceClient) {
	s.Helper()
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		s.Fatal(err)
	}
	for i, size := range []int{1, 1 << 20, 100, 2 << 20} {
		data := random(size)
		request := &testgrpc.StreamingOutputCallRequest{
			Payload:            &testgrpc.Payload{Body: data},
			ResponseParameters: []*testgrpc.ResponseParameters{{IntervalUs: int32(i % 2 * int(silence.Microseconds()))}, {}},
		}
		if err := stream.Send(request); err != nil {
			s.Fatal(err)
		}
		for range request.GetResponseParameters() {
			answer, err := stream.Recv()
			if err != nil {
				s.Fatalf("message %d: %v\n%s", i, err, s.LastJournal())
			}
			s.mustEqual("message", answer.GetPayload().GetBody(), data)
			s.awake()
		}
	}
	if err := stream.CloseSend(); err != nil {
		s.Error(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		s.Errorf("the end of the stream: %v", err)
	}
}

func (s service) inputCall(ctx context.Context, client testgrpc.TestServiceClient) {
	s.Helper()
	stream, err := client.StreamingInputCall(ctx)
	if err != nil {
		s.Fatal(err)
	}
	const size, messages = 1 << 20, 32
	for range messages {
		if err := stream.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: random(size)}}); err != nil {
			s.Fatal(err)
		}
	}
	answer, err := stream.CloseAndRecv()
	if err != nil || answer.GetAggregatedPayloadSize() != size*messages {
		s.Errorf("the server has counted %d bytes of %d: %v", answer.GetAggregatedPayloadSize(), size*messages, err)
	}
}
