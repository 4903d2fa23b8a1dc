"""The audit log: what was decided, granted and ended, in a file that shows whether anybody changed it afterwards.

Records are JSON lines, chained by hashes (`record`) and leaves of one growing Merkle tree (`tree`). Its head is signed
from time to time (`checkpoint`) and handed to places that this machine cannot change (`anchors`). `log` writes,
`verify` reads without any of the daemon. This room knows nothing of facts or the journal: what is told is an
`AuditEvent`.
"""
