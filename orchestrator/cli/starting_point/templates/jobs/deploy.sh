# Runs only when policy has allowed this artifact for this environment. The token is made for this one job, audience and
# digest; it is refused from the moment that the job ends.
set -eu
: "${ARTIFACT_DIGEST:?is set by ./dispatch}" "${DEPLOY_AUDIENCE:?is set by ./dispatch}"
orchestrator-token --audience "$DEPLOY_AUDIENCE" > token
echo "deploying $ARTIFACT_DIGEST with a token for $DEPLOY_AUDIENCE"
# curl --fail --header "Authorization: Bearer $(cat token)" --data "$ARTIFACT_DIGEST" "$DEPLOY_AUDIENCE/deployments"
