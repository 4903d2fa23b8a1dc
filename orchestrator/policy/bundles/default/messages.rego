# What a developer reads when a requirement is not met. Beside the code, which names the rule, each message says which
# input failed and what it is, what was expected, and what to do.
package orchestrator.messages

import data.orchestrator.environment.name as environment

settings := data.orchestrator.environment.settings

say(path, wanted, fix) := sprintf("input.%s is %s, expected %s: %s", [concat(".", path), shown(path), wanted, fix])

shown(path) := substring(json.marshal(object.get(input, path, null)), 0, 200)

list(values) := concat(", ", [format(value) | some value in values])

format(value) := value if is_string(value)

format(value) := json.marshal(value) if not is_string(value)

message("artifact_unknown") := say(
	["artifact", "digest"], shown(["request", "artifact_digest"]),
	"name the digest (sha256:...) of an artifact that a job of this orchestrator built, or bring its signed provenance; a job of a platform names it with orchestrator-token --artifact FILE",
)

message("artifact_unsigned") := say(
	["artifact", "signed"], "true, by a signer who may sign",
	"build it in a job that reports it with orchestrator-artifact, or upload a signature by a configured signer",
)

message("signer_missing") := sprintf("input.artifact.signatures has none by %s, expected one by each of %s: have it signed by them", [
	list(data.orchestrator.artifact.missing_signers), list(settings.signers),
])

message("sbom_missing") := say(
	["artifact", "sbom"], "true", "attach a bill of materials in the job that builds it: orchestrator-artifact FILE --sbom SBOM",
)

message("sbom_unfit") := sprintf("input.artifact.sboms has none of a format in %s with at least %v components, expected one: attach one that lists what the artifact is made of", [
	list(settings.sbom_contents.formats), settings.sbom_contents.min_components,
])

message("base_not_approved") := say(
	["artifact", "base"], sprintf("one of %s", [list(settings.approved_bases)]),
	sprintf("build it on a base that is approved for %s", [environment]),
)

message("built_elsewhere") := say(
	["artifact", "built", "builder"], "a builder of this orchestrator, or one that the policy's data names",
	"build it in a job of this orchestrator, so that its provenance is ours",
)

message("source_mismatch") := sprintf("input.artifact.built.repository is %s of %s, expected %s of %s: build and deploy it in pipelines of the same repository (without one: as the same caller)", [
	shown(["artifact", "built", "repository"]), shown(["artifact", "built", "caller_issuer"]),
	shown(["caller", "facts", "repository"]), shown(["caller", "issuer"]),
])

message("build_trust_tier_too_low") := say(
	["artifact", "built", "trust_tier"], sprintf("%s or higher", [settings.min_build_trust_tier]),
	"build it in a pool of that trust tier",
)

message("source_unverified") := say(
	["artifact", "built", "repository"], "a repository that the dispatching platform vouches for",
	"have your CI platform dispatch the build with its own token",
)

message("provenance_level_too_low") := sprintf("input.artifact.provenances has none of level %v by the builder that counts, expected one: build it where the settings grant that level", [
	settings.provenance.min_level,
])

message("provenance_stale") := sprintf("input.artifact.provenances tells of a build that ended at %s, expected within %v seconds before %s: build it again", [
	json.marshal(object.get(judged, "finished_at", null)), settings.provenance.max_age_seconds, input.time,
])

message("build_used_caches") := sprintf("input.artifact.provenances tells of caches %s, expected []: build it without caches", [
	json.marshal(object.get(judged, "caches", null)),
])

message("build_reached_out") := sprintf("input.artifact.provenances tells of %s refused connections, expected 0: stop the build from reaching where its pool does not let it, and build again", [
	json.marshal(object.get(judged, "egress_refused", null)),
])

message("security_approval_missing") := sprintf("input.approvals has %v by different people of kind security that count, expected %v: ask somebody other than yourself to approve this very digest for %s", [
	data.orchestrator.approvals.given("security"), object.get(data.orchestrator.approvals.wanted, "security", 1), environment,
])

message("approval_missing") := sprintf("input.approvals has too few of kind %s, expected %s: ask somebody other than yourself to approve this very digest for %s", [
	list(data.orchestrator.approvals.lacking), json.marshal(data.orchestrator.approvals.wanted), environment,
])

message("commit_not_on_protected_branch") := say(
	["source", "protected"], "true for the commit that the artifact was built from",
	"merge the commit into a protected branch, and build from there",
)

message("commit_unsigned") := say(
	["source", "commit_verified"], "true for the commit that the artifact was built from",
	"sign your commits, and build from a signed one",
)

message("commit_unreviewed") := say(
	["source", "reviewed"], "true for a merged pull request with the commit that the artifact was built from",
	"have somebody else approve a pull request, merge it, and build from there",
)

message("scan_missing") := sprintf("input.artifact.scans has none by %s, expected one by each of %s: scan the artifact and report it with orchestrator-artifact FILE --scan REPORT --scanner NAME", [
	list(data.orchestrator.scans.missing), list(data.orchestrator.scans.scanners),
])

message("scan_stale") := sprintf("input.artifact.scans has no recent one by %s, expected one of the last %v seconds: scan the artifact again", [
	list(data.orchestrator.scans.stale), data.orchestrator.scans.settings.max_age_seconds,
])

message("vulnerabilities_over_threshold") := sprintf("input.artifact.scans counts %s, expected no more than the limit: update what is vulnerable, or have the policy's owners ignore a finding until a date", [
	list([sprintf("%v %s by %s (limit %v)", [one.count, one.severity, one.scanner, one.limit]) | some one in data.orchestrator.scans.excess]),
])

message("ticket_missing") := say(
	["ticket", "exists"], sprintf("true for the ticket %s", [shown(["request", "ticket"])]),
	"name the release ticket when you submit the job (--ticket ID), or in the message of the commit where a trailer is set up",
)

message("ticket_unfit") := sprintf("input.ticket is open: %s, of project %s and type %s, expected open: true, a project of [%s] and a type of [%s] (empty: any): open the right ticket and name it", [
	shown(["ticket", "open"]), shown(["ticket", "project"]), shown(["ticket", "type"]),
	list(settings.ticket.projects), list(settings.ticket.types),
])

message("trust_tier_too_low") := say(
	["pool", "trust_tier"], sprintf("%s or higher", [settings.min_trust_tier]), sprintf("choose a pool that may reach %s", [environment]),
)

message("isolation_not_approved") := say(
	["pool", "isolation"], sprintf("one of %s", [list(settings.approved_isolation)]), "choose a pool with such isolation",
)

message("static_secrets") := say(
	["credentials", "static_secrets"], "0 here",
	"take the secrets from the job and let it exchange its identity; what cannot do so stays out of this environment and pool",
)

message("secret_not_allowed") := say(
	["request", "secrets"], "registered secrets that this job may ask for", "ask the secret's owner, or exchange the job's identity instead",
)

message("secret_overdue") := say(
	["request", "secrets"], "secrets that are no older than they may be", "have the secret's owner rotate it",
)

message("privileged") := say(
	["workload", "privileged"], "false",
	"remove privileged, host namespaces and host paths; images are built without them in a sandboxed pool",
)

message("image_not_pinned") := say(["workload", "images"], "each with its digest (@sha256:...)", "deploy by digest, not by tag")

message("registry_not_approved") := say(
	["workload", "images"], sprintf("each from one of: %s", [list(settings.registries)]), "push it to an approved registry, and deploy from there",
)

default judged := {}

judged := data.orchestrator.provenance.judged
