// Command pstest serves Google's own fake of Pub/Sub, made for the tests of its Go client, to
// clients in any language: gRPC and HTTP/JSON on one loopback port.
//
// The fake speaks gRPC only, while the administrative half of the Rust client speaks HTTP/JSON.
// The HTTP annotations in Google's own protos say which request stands for which call, and
// Vanguard translates by them.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"connectrpc.com/vanguard"
	"connectrpc.com/vanguard/vanguardgrpc"
	"google.golang.org/grpc"
)

// maxRequest is above the 10 MB that the cloud takes, so that the limit is not met here first.
const maxRequest = 32 << 20

func main() {
	port := flag.Int("port", 0, "the loopback port to serve on")
	flag.Parse()
	if *port < 1 || *port > 65535 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: pstest -port PORT")
		os.Exit(2)
	}
	if err := serve(*port); err != nil {
		log.Fatal(err)
	}
}

func serve(port int) error {
	// The cloud's minimum of 10 seconds, which the fake knows but does not start with.
	pstest.ResetMinAckDeadline()
	// The fake also listens on a port of its own, which nobody is told of: a server of ours allows
	// larger requests and stands in front of each call.
	fake := pstest.NewServerWithAddress("127.0.0.1:0")
	defer fake.Close()

	guard := &guard{fake: fake}
	faults := &faults{}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.ChainUnaryInterceptor(faults.unary, guard.unary),
		grpc.ChainStreamInterceptor(faults.stream, answerPings),
	)
	pubsubpb.RegisterPublisherServer(server, &fake.GServer)
	pubsubpb.RegisterSubscriberServer(server, &fake.GServer)
	pubsubpb.RegisterSchemaServiceServer(server, &fake.GServer)
	transcoder, err := vanguardgrpc.NewTranscoder(server, vanguard.WithCodec(jsonCodec))
	if err != nil {
		return err
	}

	// gRPC without TLS is HTTP/2 in clear text; REST is HTTP/1.1.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	routes := http.NewServeMux()
	routes.Handle(faultsPath, faults)
	routes.Handle("/", googleREST(transcoder))
	web := &http.Server{
		Addr:      net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Handler:   routes,
		Protocols: &protocols,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 10_000},
	}

	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		// Open streams never end by themselves, so nothing is waited for.
		web.Close()
	}()
	log.Printf("listening on http://%s", web.Addr)
	if err := web.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}
