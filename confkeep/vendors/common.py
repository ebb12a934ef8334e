"""Secrets that show in any maker's text: by their form, or by a word before them."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import OTHER_WORDS, Secret

#: Secrets that their own form tells.
SHAPES: Final = (
    Secret(r"""://[^\s/@:"']*:([^\s"'/]+)@""", "RFC 3986, 3.2.1: user information"),
    Secret(
        r"""(?i)authorization\\*["']?[ \t]*[:=][ \t]*\\*["']?(?:(?:bearer|basic|token|digest)[ \t]+)?([^\s"'\\]+)""",
        "RFC 9110, 11.6.2: Authorization",
    ),
    Secret(r"(?i)\bbearer[ \t]+([\w.~+/=-]{8,})", "RFC 6750, 2.1: bearer tokens"),
    Secret(r"\bbot([0-9]{5,}:[\w-]{20,})", "core.telegram.org/bots/api: authorizing your bot"),
    Secret(r"\b(eyJ[\w-]{10,}\.[\w-]+\.[\w-]*)", "RFC 7519: JSON web tokens"),
    Secret(r"\b(AKIA[0-9A-Z]{16})\b", "AWS IAM: unique identifiers"),
    Secret(
        r"\b(gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})",
        "docs.github.com, docs.gitlab.com: token prefixes",
    ),
    Secret(r"\b(xox[a-z]-[\w-]{10,})", "api.slack.com: token types"),
    Secret(r"hooks\.slack\.com/services/([\w/]+)", "api.slack.com: incoming webhooks"),
    Secret(
        r"discord(?:app)?\.com/api/webhooks/[0-9]+/([\w-]+)",
        "discord.com/developers: webhooks",
    ),
    Secret(
        r"(\$(?:1|2[abxy]?|5|6|7|8|9|14|y|sha1|sha512|argon2[a-z]*|pbkdf2[\w-]*)\$[\w./$+=,*-]{4,})",
        "crypt(5), and Junos and IOS in the same form",
    ),
)

#: Words that are followed by a secret in nearly every maker's commands. Exports of RouterOS have no such.
WORDS: Final = (
    Secret(
        r"""(?i)(?:^|[\s"';{])(?:[\w.-]*(?:password|passwd|passphrase|passcode|psksecret|secret|psk|phash))"""
        r"""[ \t]+(?:(?:[0-9]{1,2}|sha[0-9]*|md5|hmac-[\w-]+|encrypted|cipher|simple|plain|plaintext|hash|ciphertext|cleartext|clear|text"""
        r"""|ascii|ascii-text|hex|hexadecimal|enc|local|remote|level[ \t]+[0-9]+|role[ \t]+\S+)[ \t]+)*"""
        r"""("[^"\n]*"|'[^'\n]*'|[^\s;]+)""",
        "RANCID, FILTER_PWDS: the words that it removes passwords behind",
        unless=OTHER_WORDS,
    ),
    Secret(
        r"""(?i)(?:^|[\s"'])(?:[\w.-]*(?:private-key|pre-?shared-key|auth[\w]*-key|shared-key|encrypt[\w]*-key"""
        r"""|hello-authentication-key|key-string|api-key|wpa-key|wep-key|session-key|md5-key))[ \t]+"""
        r"""(?:(?:[0-9]{1,2}|type[ \t]+\S+[ \t]+value|md5|sha[0-9]*|encrypted|cipher|simple|plain|ascii-text|ascii|hexadecimal|hex"""
        r"""|local|remote|password)[ \t]+)*("[^"\n]*"|'[^'\n]*'|[^\s;{]+)""",
        "RANCID, FILTER_PWDS: the words that it removes keys behind",
        unless=OTHER_WORDS,
    ),
    Secret(
        r"""(?i)snmp[\w-]*[ \t](?:[^\n]*[ \t])?community[ \t]+(?:(?:[0-9]|encrypted|cipher|simple|plain|read|write)[ \t]+)*"""
        r"""("[^"\n]*"|'[^'\n]*'|[^\s;{]+)""",
        "RANCID, FILTER_COMMSTR",
    ),
    # XML, as OPNsense, pfSense and PAN-OS write it.
    Secret(
        r"""(?i)<(?:[\w.-]*(?:passw|passphrase|pwd|secret|psk|token|phash|seed|hash|bindpw|private-?_?key|pre-?_?shared-?_?key|api-?_?key|shared-?_?key|auth-?_?key|secret-?_?key|master-?key|privkey|prv))[\w.-]*"""
        r"""(?:[ \t][^<>\n]*)?>(?:\s*<!\[CDATA\[)?([^<\]]+)(?:\]\]>\s*)?</""",
        "names of elements that sound secret",
    ),
)
