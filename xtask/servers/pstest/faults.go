package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// faultsPath is where tests ask for faults. No call of Pub/Sub has such a path.
const faultsPath = "/faults"

// fault is what tests ask for, in the body of a POST.
type fault struct {
	// Method is the call that fails, by its last name: Publish, Acknowledge, StreamingPull.
	Method string `json:"method"`
	// Resource is the topic or subscription that the call must name, in full, so that tests can run
	// beside each other; without it every call is meant.
	Resource string `json:"resource"`
	// Code is how it fails, as Google spells it; without one it only waits.
	Code string `json:"code"`
	// Count is how many calls fail; without it, one.
	Count int `json:"count"`
	// DelayMS is how long a call waits before it is looked at.
	DelayMS int `json:"delay_ms"`
	// Applied calls take effect, and only their answer is an error.
	Applied bool `json:"applied"`
	// AfterMS is how long a stream is well before it fails.
	AfterMS int `json:"after_ms"`
	code    codes.Code
}

// faults are those that are still to come.
type faults struct {
	lock    sync.Mutex
	pending []fault
}

// ServeHTTP takes a fault by POST, answers with those still to come by GET, and forgets all by
// DELETE.
func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.lock.Lock()
	defer f.lock.Unlock()
	switch r.Method {
	case http.MethodPost:
		var asked fault
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		err := decoder.Decode(&asked)
		if err == nil {
			err = f.add(asked)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	case http.MethodDelete:
		f.pending = nil
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"pending": f.pending})
}

func (f *faults) add(asked fault) error {
	if asked.Method == "" {
		return errors.New("no method")
	}
	if asked.Code != "" {
		for code, name := range names {
			if name == asked.Code {
				asked.code = code
			}
		}
		if asked.code == codes.OK {
			return errors.New("unknown code " + asked.Code)
		}
	}
	asked.Count = max(asked.Count, 1)
	f.pending = append(f.pending, asked)
	return nil
}

// take returns the fault for a call, if there is one.
func (f *faults) take(method string, request any) *fault {
	f.lock.Lock()
	defer f.lock.Unlock()
	for i := range f.pending {
		pending := &f.pending[i]
		if pending.Method != method || !isAbout(request, pending.Resource) {
			continue
		}
		taken := *pending
		pending.Count--
		if pending.Count == 0 {
			f.pending = append(f.pending[:i], f.pending[i+1:]...)
		}
		return &taken
	}
	return nil
}

func isAbout(request any, name string) bool {
	if name == "" {
		return true
	}
	switch request := request.(type) {
	case interface{ GetSubscription() string }:
		return request.GetSubscription() == name
	case interface{ GetTopic() string }:
		return request.GetTopic() == name
	}
	return false
}

// wait does not end when the caller gives up: the answer is late, and not just in time.
func (t *fault) wait() {
	time.Sleep(time.Duration(t.DelayMS) * time.Millisecond)
}

func (t *fault) err() error {
	if t.code == codes.OK {
		return nil
	}
	return status.Error(t.code, "this failure was asked for")
}

func (f *faults) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	fault := f.take(path.Base(info.FullMethod), request)
	if fault == nil {
		return handle(ctx, request)
	}
	fault.wait()
	err := fault.err()
	if err == nil || fault.Applied {
		answer, failed := handle(ctx, request)
		if err == nil {
			return answer, failed
		}
	}
	return nil, err
}

func (f *faults) stream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	method := path.Base(info.FullMethod)
	return handle(service, &faulty{ServerStream: stream, faults: f, method: method})
}

// faulty is a stream that may fail when it is opened, or later.
type faulty struct {
	grpc.ServerStream
	faults *faults
	method string
	opened bool // Used by the one goroutine that receives.
	over   <-chan time.Time
	err    error
}

func (s *faulty) RecvMsg(message any) error {
	if !s.opened {
		return s.open(message)
	}
	if s.over == nil {
		return s.ServerStream.RecvMsg(message)
	}
	received := make(chan error, 1)
	// It ends with the stream, and nobody looks at the message then.
	go func() { received <- s.ServerStream.RecvMsg(message) }()
	select {
	case err := <-received:
		return err
	case <-s.over:
		return s.err
	}
}

func (s *faulty) open(message any) error {
	s.opened = true
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	fault := s.faults.take(s.method, message)
	if fault == nil {
		return nil
	}
	fault.wait()
	if fault.AfterMS == 0 {
		return fault.err()
	}
	s.over, s.err = time.After(time.Duration(fault.AfterMS)*time.Millisecond), fault.err()
	return nil
}
