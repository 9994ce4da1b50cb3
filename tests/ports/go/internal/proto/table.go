package proto

// State tables as data.

import "slices"

// A Row is a row of a state table: what a state does at an event, and the state after it.
type Row struct{ State, Event, Action, Next string }

// A Table is a state table: the facts that are its events, and its rows.
type Table struct {
	Events []string
	Rows   []Row
}

// AnyOther stands for every event that a state has no row for.
const AnyOther = "any other"

// Tables are all state tables of the text by their names.
var Tables = map[string]*Table{
	"Initiator": &InitiatorTable, "Responder": &ResponderTable, "Session": &SessionTable,
	"LinkDialler": &DiallerTable, "LinkAccepter": &AccepterTable, "LinkRequest": &RequestTable,
	"LinkMessages": &LinkTable,
}

// Has says whether a table has this state and this event.
func (t *Table) Has(state, event string) bool {
	return slices.Contains(t.Events, event) &&
		slices.ContainsFunc(t.Rows, func(r Row) bool { return r.State == state })
}

// Look finds the row of an event, or the state's default row.
func (t *Table) Look(state, event string) Row {
	if !t.Has(state, event) {
		panic("no state " + state + ", or no event " + event)
	}
	var other Row
	for _, r := range t.Rows {
		if r.State == state && r.Event == event {
			return r
		}
		if r.State == state && r.Event == AnyOther {
			other = r
		}
	}
	return other
}
