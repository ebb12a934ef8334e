"""OPNsense and pfSense: `config.xml`."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import Family, Secret, Volatile

OPNSENSE: Final = Family(
    "OPNsense",
    frozenset({"opnsense", "pfsense"}),
    r"<(?:opnsense|pfsense)>",
    (
        Volatile("<revision", "", "Oxidized, lib/oxidized/model/opnsense.rb", end="</revision>"),
        Volatile(
            "<last_rule_upd_time>",
            r"\s*<last_rule_upd_time>\d*</last_rule_upd_time>\s*",
            "Oxidized, lib/oxidized/model/opnsense.rb",
        ),
    ),
    (
        Secret(
            r"""(?i)<(?:password|passwd|pass|bcrypt-hash|sha512-hash|md5-hash|nt-hash|secret|prv|psk|pre-shared-key|shared_key|tls|tlsauth|key"""
            r"""|privkey|privatekey|private_key|radius_secret|radius_secret2|ldap_bindpw|bindpw|otp_seed|rocommunity|rwcommunity|trapstring"""
            r"""|community|authpass|privpass|token|apikey|api_key|proxypass|proxypassphrase|proxy_passwd|passphrase|encryption_password"""
            r"""|redis_pass|haproxypassword|statspassword|wpa_passphrase|passphrase_confirm|pppoe_password|monitor_pass|sharedkey)"""
            r"""(?:[ \t][^<>]*)?>(?:\s*<!\[CDATA\[)?([^<\]]+)""",
            "opnsense/core, src/etc/config.xml.sample; pfsense-redactor",
        ),
    ),
)
