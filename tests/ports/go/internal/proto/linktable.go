package proto

// DiallerTable is the state table LinkDialler (7.2). The dials themselves are no part of this port.
var DiallerTable = Table{[]string{
	"PEER_ADDED", "PEER_REMOVED", "BACKOFF_PASSED", "FIRST_RECORD_OPENED", "DIAL_FAILED", "LINK_STEADY", "LINK_AGED",
	"LINK_ENDED", "LINK_CONFLICTED", "CONFLICT_PASSED",
}, []Row{
	{"STOPPED", "PEER_ADDED", "reset the back-off, dial", "DIALLING"},
	{"STOPPED", AnyOther, "nothing", "STOPPED"},
	{"WAITING", "BACKOFF_PASSED", "dial", "DIALLING"},
	{"WAITING", "CONFLICT_PASSED", "reset the back-off, dial", "DIALLING"},
	{"WAITING", "PEER_REMOVED", "nothing", "STOPPED"},
	{"WAITING", AnyOther, "nothing", "WAITING"},
	{"DIALLING", "FIRST_RECORD_OPENED", "put the new link in force", "LINKED"},
	{"DIALLING", "DIAL_FAILED", "back off", "WAITING"},
	{"DIALLING", "CONFLICT_PASSED", "reset the back-off", "DIALLING"},
	{"DIALLING", "PEER_REMOVED", "end the dial", "STOPPED"},
	{"DIALLING", AnyOther, "nothing", "DIALLING"},
	{"LINKED", "LINK_STEADY", "reset the back-off", "LINKED"},
	{"LINKED", "LINK_AGED", "dial", "RENEWING"},
	{"LINKED", "LINK_ENDED", "back off", "WAITING"},
	{"LINKED", "LINK_CONFLICTED", "back off longest", "WAITING"},
	{"LINKED", "PEER_REMOVED", "end the link", "STOPPED"},
	{"LINKED", AnyOther, "nothing", "LINKED"},
	{"RENEWING", "FIRST_RECORD_OPENED", "put the new link in force", "LINKED"},
	{"RENEWING", "DIAL_FAILED", "back off", "RENEW_WAITING"},
	{"RENEWING", "LINK_ENDED", "nothing", "DIALLING"},
	{"RENEWING", "LINK_CONFLICTED", "raise the back-off", "DIALLING"},
	{"RENEWING", "PEER_REMOVED", "end the link, end the dial", "STOPPED"},
	{"RENEWING", AnyOther, "nothing", "RENEWING"},
	{"RENEW_WAITING", "BACKOFF_PASSED", "dial", "RENEWING"},
	{"RENEW_WAITING", "LINK_ENDED", "nothing", "WAITING"},
	{"RENEW_WAITING", "LINK_CONFLICTED", "back off longest", "WAITING"},
	{"RENEW_WAITING", "PEER_REMOVED", "end the link", "STOPPED"},
	{"RENEW_WAITING", AnyOther, "nothing", "RENEW_WAITING"},
}}

// AccepterTable is the state table LinkAccepter (7.3).
var AccepterTable = Table{[]string{"LINK_ESTABLISHED", "LINK_ENDED", "LINK_CONFLICTED", "PEER_REMOVED"}, []Row{
	{"NONE", "LINK_ESTABLISHED", "put the new link in force", "LINKED"},
	{"NONE", AnyOther, "nothing", "NONE"},
	{"LINKED", "LINK_ESTABLISHED", "put the new link in force, send Bye on the older", "LINKED"},
	{"LINKED", "LINK_ENDED", "nothing", "NONE"},
	{"LINKED", "LINK_CONFLICTED", "nothing", "NONE"},
	{"LINKED", "PEER_REMOVED", "end the link", "NONE"},
	{"LINKED", AnyOther, "nothing", "LINKED"},
}}

// LinkTable is the state table LinkMessages (7.8).
var LinkTable = Table{[]string{
	"OFFER_READ", "CONFLICT_FOUND", "REQUEST_READ", "TRANSFER_DROPPED", "TRANSFER_VERIFIED", "MESSAGE_REFUSED",
	"ROSTER_ADOPTED", "LINK_REFUSED", "REPLACED", "NODE_STOPPING", "BYE_OPENED", "SESSION_ENDED", "BYE_DEADLINE_PASSED",
}, []Row{
	{"AWAIT_OFFER", "OFFER_READ", "keep the offer", "EXCHANGED"},
	{"AWAIT_OFFER", "CONFLICT_FOUND", "send Error(roster_conflict)", "ENDED"},
	{"AWAIT_OFFER", "ROSTER_ADOPTED", "send RosterOffer", "AWAIT_OFFER"},
	{"AWAIT_OFFER", "LINK_REFUSED", "send Error(not_authorized)", "ENDED"},
	{"AWAIT_OFFER", "REPLACED", "send Bye", "LEAVING"},
	{"AWAIT_OFFER", "NODE_STOPPING", "send Bye", "LEAVING"},
	{"AWAIT_OFFER", "BYE_OPENED", "send Bye", "ENDED"},
	{"AWAIT_OFFER", "SESSION_ENDED", "nothing", "ENDED"},
	{"AWAIT_OFFER", AnyOther, "send Error(protocol_violation)", "ENDED"},
	{"EXCHANGED", "OFFER_READ", "keep the offer", "EXCHANGED"},
	{"EXCHANGED", "CONFLICT_FOUND", "send Error(roster_conflict)", "ENDED"},
	{"EXCHANGED", "REQUEST_READ", "send RosterTransfer or leave it", "EXCHANGED"},
	{"EXCHANGED", "TRANSFER_DROPPED", "nothing", "EXCHANGED"},
	{"EXCHANGED", "TRANSFER_VERIFIED", "adopt", "EXCHANGED"},
	{"EXCHANGED", "ROSTER_ADOPTED", "send RosterOffer", "EXCHANGED"},
	{"EXCHANGED", "LINK_REFUSED", "send Error(not_authorized)", "ENDED"},
	{"EXCHANGED", "REPLACED", "send Bye", "LEAVING"},
	{"EXCHANGED", "NODE_STOPPING", "send Bye", "LEAVING"},
	{"EXCHANGED", "BYE_OPENED", "send Bye", "ENDED"},
	{"EXCHANGED", "SESSION_ENDED", "nothing", "ENDED"},
	{"EXCHANGED", AnyOther, "send Error(protocol_violation)", "ENDED"},
	{"LEAVING", "BYE_OPENED", "nothing", "ENDED"},
	{"LEAVING", "LINK_REFUSED", "send Error(not_authorized)", "ENDED"},
	{"LEAVING", "TRANSFER_VERIFIED", "adopt", "LEAVING"},
	{"LEAVING", "SESSION_ENDED", "nothing", "ENDED"},
	{"LEAVING", "BYE_DEADLINE_PASSED", "close", "ENDED"},
	{"LEAVING", AnyOther, "discard", "LEAVING"},
	{"ENDED", "TRANSFER_VERIFIED", "adopt", "ENDED"},
	{"ENDED", AnyOther, "nothing", "ENDED"},
}}

// RequestTable is the state table LinkRequest (7.7).
var RequestTable = Table{[]string{"CANDIDATE_FOUND", "REQUEST_ENDED", "REQUEST_FAILED"}, []Row{
	{"QUIET", "CANDIDATE_FOUND", "choose a candidate, send RosterRequest", "ASKING"},
	{"QUIET", AnyOther, "nothing", "QUIET"},
	{"ASKING", "REQUEST_ENDED", "nothing", "QUIET"},
	{"ASKING", "REQUEST_FAILED", "remember the peer's failure", "QUIET"},
	{"ASKING", AnyOther, "nothing", "ASKING"},
}}
