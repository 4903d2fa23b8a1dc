"""People who sign in at an OpenID provider: we are the relying party. Nothing here knows of jobs or pages."""
