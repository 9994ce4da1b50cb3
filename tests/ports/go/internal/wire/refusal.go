package wire

// Refusals, which name the requirement that refuses.

import (
	"errors"
	"fmt"
)

// A Refusal says that something was refused, and by which requirement; its cause may be a refusal too.
type Refusal struct {
	ID    string
	Why   string
	cause error
}

func (r *Refusal) Error() string { return "[" + r.ID + "] " + r.Why }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.cause }

// Refuse makes a Refusal. An error among the arguments is its cause.
func Refuse(id, format string, args ...any) error {
	r := &Refusal{ID: id, Why: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			r.cause = err
		}
	}
	return r
}

// RefusedBy gives the id of the requirement that refused, or "" if err is no Refusal.
func RefusedBy(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.ID
	}
	return ""
}
