package main

// layerOfID says in which layer of FORMAT.md a requirement refuses. An id that is not here refuses for a reason that
// its cause names.
var layerOfID = layerIDs(map[string][]string{
	"frame":   {"FR-4"},
	"version": {"HS-26"},
	"decode": {
		"NO-3", "NO-4", "NO-11", "NO-12", "NO-15", "NO-16", "NO-17", "NO-18", "NO-19",
		"ID-1", "ID-9", "ID-22", "ID-26", "ID-28", "ID-34", "ID-35", "ID-36",
		"RO-4", "RO-5", "RO-6", "RO-7", "RO-13", "RO-15", "RO-16", "RO-17", "RO-18", "RO-19", "RO-20", "RO-21",
		"HS-8", "HS-30", "HS-38", "HS-49", "HS-50", "HS-51",
	},
	"mac":        {"HS-27"},
	"replay":     {"HS-28", "HS-39"},
	"oaep":       {"ID-17"},
	"hello_aead": {"HS-29"},
	"recipient":  {"HS-31", "HS-32"},
	"role":       {"HS-16", "HS-17", "HS-33", "HS-34", "HS-36", "SV-29"},
	"membership": {
		"RO-11", "RO-27", "RO-29", "RO-30", "RO-35", "RO-42", "RO-45", "RO-58", "RO-64", "HS-1", "HS-35", "HS-58",
	},
	"signature":  {"ID-12", "ID-13", "ID-14", "ID-15", "HS-37"},
	"reply_aead": {"HS-48"},
	"record":     {"NO-27", "SE-13"},
	"session": {
		"HS-57", "SE-9", "SE-10", "SE-21", "SE-22", "SE-29", "SE-30", "SE-34", "SE-40", "SE-57", "SE-65",
	},
	"link": {"LK-21", "LK-22", "LK-26", "LK-47", "LK-48"},
})

// causeFirst are the ids whose layer is that of their cause, where they have one.
var causeFirst = map[string]bool{"HS-26": true, "HS-57": true}

func layerIDs(layers map[string][]string) map[string]string {
	layerOf := map[string]string{}
	for layer, ids := range layers {
		for _, id := range ids {
			layerOf[id] = layer
		}
	}
	return layerOf
}

// layerOf gives the layer of a refusal.
func layerOf(err error) string {
	ids := idsOf(err)
	for i, id := range ids {
		if causeFirst[id] && i < len(ids)-1 {
			continue
		}
		if l := layerOfID[id]; l != "" {
			return l
		}
	}
	return ""
}
