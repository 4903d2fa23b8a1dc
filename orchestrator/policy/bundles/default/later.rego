# A job whose platform chooses the runner cannot say before it runs what it deploys. What is demanded of that artifact is
# demanded when the job asks for a token, of which it has none before. All that is known earlier is demanded earlier.
package orchestrator.later

default waiting := set()

waiting := union({
	data.orchestrator.approvals.codes,
	data.orchestrator.artifact.codes,
	data.orchestrator.provenance.codes,
	data.orchestrator.scans.codes,
	data.orchestrator.source.codes,
	data.orchestrator.ticket.codes,
}) if {
	input.stage == "admission"
	input.job.artifact_named_later == true
	input.request.artifact_digest == ""
}
