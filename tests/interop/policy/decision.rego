# Policy allows whatever comes from our own repositories; what these tests are about is who else decides.
package orchestrator

default decision := {"allow": false, "reasons": [{"code": "not_ours", "message": "only repositories of acme run here"}]}

decision := {"allow": true} if {
	input.stage in {"admission", "exchange"}
	input.caller.facts.repository_owner_id == "1"
}
