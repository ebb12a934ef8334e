"""The Oxidized look-alike: the routes of oxidized-web that other tools call, and what Oxidized itself sends."""
