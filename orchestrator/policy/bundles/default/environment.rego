# Where the job wants to deploy to, and what the data says about it. Whatever the data leaves out is demanded.
#
# Rules are imported one by one, never a whole package: regorus evaluates all of a package that is referred to by its name.
package orchestrator.environment

name := input.request.deployment_environment

settings := data.environments[name]

# No static secrets, and a source that somebody vouches for: production, and whatever is not said to be less.
strict if not lenient

lenient if settings.strict == false
