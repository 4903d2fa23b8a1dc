"""Apache with mod_auth_openidc: a verifier in C that many put before their services. Two doors to the same page.

`/keys/` verifies tokens by our key set; `/asks/`, at another port, asks our introspection endpoint each time. Both want
the same claims of them. What the module does not check by itself, issuer and audience, is among those claims.
"""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from interop import APACHE, Program, free_ports

HOST = "web.interop.internal"
AUDIENCE = "https://web.interop.internal"
PAGE = "deployed\n"
MODULES = ("mpm_event", "authn_core", "authz_core", "authz_user", "alias", "auth_openidc")


class WebServer:
    """Trusts `issuer` (whose certificate `ca_file` vouches for), and of its tokens those for `AUDIENCE` and prod."""

    def __init__(self, folder: Path, issuer: str, ca_file: Path) -> None:
        folder.mkdir()
        self.keys_port, self.asks_port = free_ports(2)
        # Readable for the server's own user, which pytest's folders are not.
        self._readable = tempfile.TemporaryDirectory(prefix="orchestrator-interop-")
        readable = Path(self._readable.name)
        page, authority = readable / "page", readable / "ca.pem"
        page.mkdir()
        (page / "index").write_text(PAGE)
        authority.write_text(ca_file.read_text())
        for path, mode in ((readable, 0o755), (page, 0o755), (page / "index", 0o644), (authority, 0o644)):
            path.chmod(mode)
        modules = "\n".join(
            f"LoadModule {name}_module {APACHE}/usr/lib/apache2/modules/mod_{name}.so" for name in MODULES
        )
        user = "User #65534\nGroup #65534\n" if os.geteuid() == 0 else ""
        configuration = f"""ServerRoot {folder}
ServerName {HOST}
{modules}
{user}PidFile {folder}/pid
ErrorLog {folder}/errors
LogLevel warn auth_openidc:debug
Listen 127.0.0.1:{self.keys_port}
Listen 127.0.0.1:{self.asks_port}
StartServers 1
OIDCCABundlePath {authority}
OIDCOAuthRemoteUserClaim sub
<VirtualHost 127.0.0.1:{self.keys_port}>
  OIDCOAuthVerifyJwksUri {issuer}/jwks.json
  {door("keys", page, issuer)}
</VirtualHost>
<VirtualHost 127.0.0.1:{self.asks_port}>
  OIDCOAuthIntrospectionEndpoint {issuer}/v1/introspect
  OIDCOAuthTokenIntrospectionInterval -1
  {door("asks", page, issuer)}
</VirtualHost>
"""
        (folder / "apache.conf").write_text(configuration)
        self.errors = folder / "errors"
        libraries = ":".join(str(path) for path in sorted((APACHE / "usr/lib").glob("*-linux-gnu*")))
        self.program = Program(
            [f"{APACHE}/usr/sbin/apache2", "-X", "-f", f"{folder}/apache.conf"],
            folder,
            {"LD_LIBRARY_PATH": libraries, "PATH": "/usr/bin:/bin"},
        )

    async def ready(self) -> None:
        await self.program.ready(lambda: self.open_to("keys", "nonsense") == 401)

    def end(self) -> None:
        self.program.end()
        self._readable.cleanup()

    def open_to(self, door: str, token: str) -> int:
        """The status of a request with this token; 0 when nobody answers. Blocks."""
        port = self.keys_port if door == "keys" else self.asks_port
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/{door}/index", headers={"Authorization": f"Bearer {token}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.read().decode() == PAGE
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def door(name: str, page: Path, issuer: str) -> str:
    return f"""Alias /{name}/ {page}/
  <Location /{name}/>
    AuthType oauth20
    <RequireAll>
      Require claim iss:{issuer}
      Require claim aud:{AUDIENCE}
      Require claim environment:prod
    </RequireAll>
  </Location>"""
