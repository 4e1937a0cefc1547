package main

import (
	"context"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// defaultAckDeadline is what the cloud takes where a subscription names none. The fake refuses
// such a subscription, since 0 is below the minimum.
const defaultAckDeadline = 10

// farFuture is later than any message.
var farFuture = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)

// guard keeps calls from the fake that end its process.
type guard struct {
	fake *pstest.Server
	// publishing is held by each publish, and alone by a seek, which has to know all messages.
	publishing sync.RWMutex
}

func (g *guard) unary(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	switch request := request.(type) {
	case *pubsubpb.Subscription:
		if request.AckDeadlineSeconds == 0 {
			request.AckDeadlineSeconds = defaultAckDeadline
		}
	case *pubsubpb.PublishRequest:
		g.publishing.RLock()
		defer g.publishing.RUnlock()
	case *pubsubpb.SeekRequest:
		g.publishing.Lock()
		defer g.publishing.Unlock()
		if err := g.seek(ctx, request); err != nil {
			return nil, err
		}
	}
	return handle(ctx, request)
}

// seek lets only a seek through that purges. To replay a message, the fake would put one without
// a body into the subscription, also when it was published to another topic, and end with a nil
// dereference at the next delivery.
func (g *guard) seek(ctx context.Context, request *pubsubpb.SeekRequest) error {
	target, ok := request.Target.(*pubsubpb.SeekRequest_Time)
	if !ok {
		return nil // The fake refuses it.
	}
	name := &pubsubpb.GetSubscriptionRequest{Subscription: request.Subscription}
	subscription, err := g.fake.GServer.GetSubscription(ctx, name)
	if err != nil {
		return err
	}
	from := target.Time.AsTime()
	for _, message := range g.fake.Messages() {
		if message.Topic == subscription.Topic && !message.PublishTime.Before(from) {
			return status.Errorf(codes.Unimplemented,
				"pstest cannot replay messages, and %s was published at or after %s",
				message.ID, from.Format(time.RFC3339Nano))
		}
	}
	target.Time = timestamppb.New(farFuture)
	return nil
}

// answerPings answers a client's keep-alive requests in place of the fake, which holds the lock of
// all its data while it waits for the stream to take the answer: a stream that is not read would
// stop the whole server.
func answerPings(
	service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	return handle(service, &pinged{ServerStream: stream})
}

type pinged struct {
	grpc.ServerStream
	sending sync.Mutex
	opened  bool // Used by the one goroutine that receives.
}

func (p *pinged) SendMsg(message any) error {
	// The fake sends from another goroutine than the one that answers.
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.ServerStream.SendMsg(message)
}

func (p *pinged) RecvMsg(message any) error {
	for {
		if err := p.ServerStream.RecvMsg(message); err != nil {
			return err
		}
		request, ok := message.(*pubsubpb.StreamingPullRequest)
		ping := ok && p.opened && len(request.AckIds) == 0 && len(request.ModifyDeadlineAckIds) == 0
		p.opened = true
		if !ping {
			return nil
		}
		if err := p.SendMsg(&pubsubpb.StreamingPullResponse{}); err != nil {
			return err
		}
	}
}
