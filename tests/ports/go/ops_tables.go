package main

// The operation of tables.json.

import "xlattice-port/internal/proto"

type stateTableInput struct {
	Table  string   `json:"table"`
	State  string   `json:"state"`
	Events []string `json:"events"`
}

func opStateTable(_ *fixtures, in stateTableInput) (result, error) {
	table, ok := proto.Tables[in.Table]
	if !ok {
		return result{}, skip("unknown table %q", in.Table)
	}
	rows := []any{}
	for _, event := range in.Events {
		if !table.Has(in.State, event) {
			return result{}, skip("the table %s has no state %q, or no event %q", in.Table, in.State, event)
		}
		row := table.Look(in.State, event)
		rows = append(rows, map[string]any{"action": row.Action, "next": row.Next})
	}
	return result{output: map[string]any{"rows": rows}}, nil
}
