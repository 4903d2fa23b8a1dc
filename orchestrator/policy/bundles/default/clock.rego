# Times are RFC 3339 text; the only clock is the time of the decision.
package orchestrator.clock

now := moment(input.time)

# Undefined for the empty text of a document that does not say. Other text that is no time fails loudly, and denies.
moment(text) := time.parse_rfc3339_ns(text) if text != ""

# Happened at most so many seconds ago, and not in the future but for five minutes by which clocks may differ.
younger(text, seconds) if {
	is_number(seconds)
	age := now - moment(text)
	age <= seconds * 1000000000
	age >= -300000000000
}

before(text) if moment(text) > now

since(text) if moment(text) <= now
