package proto

import (
	"regexp"
	"slices"
	"testing"

	"xlattice-port/internal/spectext"
)

func TestStateTablesAreThoseOfTheText(t *testing.T) {
	found := 0
	for _, section := range []string{"05-handshake.md", "06-session.md", "07-links.md"} {
		text := spectext.Section(t, section)
		for _, name := range spectext.Headings(text, "State table") {
			found++
			table, rows := Tables[name], spectext.Table(text, "State table "+name)
			if table == nil || len(rows) != len(table.Rows) {
				t.Fatalf("%s has %d rows in the text", name, len(rows))
			}
			for i, r := range rows {
				if table.Rows[i] != (Row{r[0], r[1], r[2], r[3]}) {
					t.Errorf("%s: %v is not %v", name, table.Rows[i], r)
				}
				if r[1] != AnyOther && !slices.Contains(table.Events, r[1]) {
					t.Errorf("%s: no event %s", name, r[1])
				}
			}
			for _, event := range table.Events {
				if !regexp.MustCompile(`\b` + event + `\b`).MatchString(text) {
					t.Errorf("%s: the text has no event %s", name, event)
				}
			}
		}
	}
	if found != len(Tables) {
		t.Errorf("%d state tables in the text, %d here", found, len(Tables))
	}
}
