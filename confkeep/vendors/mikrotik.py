"""RouterOS: which properties hold secrets, and which only have names that sound so."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import SecretProperties

#: MikroTik's own list of what an export shows only with `show-sensitive`.
_LISTED: Final = "list of menus with sensitive parameters"
_MANUAL: Final = "manual.mikrotik.com/docs/"
#: It was in RouterOS 6, whose manual we could not read.
_OLD: Final = "RouterOS 6; not confirmed"
#: Looked for in today's manual, and not found.
_UNSEEN: Final = "not confirmed"
_EXPORTS: Final = "known from exports"

#: Properties that are secret in whichever menu they stand. The menus say where they are known from.
PROPERTIES: Final = (
    SecretProperties("/user, /ip ssh", ("password", "passphrase"), _LISTED),
    SecretProperties(
        "/password, /system swos password",
        ("old-password", "new-password", "confirm-new-password"),
        _LISTED,
    ),
    SecretProperties(
        "/system ssh-exec, backup, license, package local-update", ("password",), _LISTED
    ),
    SecretProperties("/ppp secret, l2tp-secret", ("password", "secret"), _LISTED),
    SecretProperties(
        "/interface pppoe-client, l2tp-client, pptp-client, sstp-client, ovpn-client, ppp-client",
        ("password", "pin"),
        _LISTED,
    ),
    SecretProperties(
        "/interface l2tp-server server, l2tp-client, l2tp-ether, eoip, gre, ipip, eoipv6, gre6, ipipv6, 6to4",
        ("ipsec-secret",),
        _LISTED,
    ),
    SecretProperties(
        "/interface wireguard, wireguard peers", ("private-key", "preshared-key"), _LISTED
    ),
    SecretProperties("/interface wireguard peers", ("client-private-key",), _UNSEEN),
    SecretProperties(
        "/ip cloud, /ip cloud back-to-home-user",
        ("private-key", "vpn-private-key", "vpn-peer-private-key"),
        _LISTED,
    ),
    SecretProperties(
        "/interface wireless security-profiles",
        (
            "wpa-pre-shared-key",
            "wpa2-pre-shared-key",
            "mschapv2-password",
            "management-protection-key",
            "static-key-0",
            "static-key-1",
            "static-key-2",
            "static-key-3",
            "static-sta-private-key",
        ),
        _LISTED,
    ),
    SecretProperties(
        "/interface wireless, wireless access-list, connect-list",
        ("private-key", "private-pre-shared-key", "management-protection-key", "nv2-preshared-key"),
        _LISTED,
    ),
    SecretProperties(
        "/caps-man security, configuration, access-list",
        ("passphrase", "private-passphrase"),
        _LISTED,
    ),
    SecretProperties(
        "/caps-man configuration, /interface wifi configuration",
        ("security.passphrase", "security.eap-password"),
        _MANUAL + "cli-reference/interface/wifi/configuration",
    ),
    SecretProperties(
        "/interface wifi (wifiwave2) security, access-list, multi-passphrase",
        ("passphrase", "eap-password"),
        _LISTED,
    ),
    SecretProperties("/interface w60g, dot1x client, vrrp", ("password",), _LISTED),
    SecretProperties("/interface macsec", ("cak",), _LISTED),
    SecretProperties("/interface lte, lte apn", ("pin", "password"), _LISTED),
    SecretProperties(
        "/ip ipsec identity, peer, user, key, installed-sa",
        ("secret", "password", "passphrase", "key", "auth-key", "enc-key", "ppk-secret"),
        _LISTED,
    ),
    SecretProperties("/ip ipsec manual-sa", ("ah-key", "esp-auth-key", "esp-enc-key"), _OLD),
    SecretProperties("/radius", ("secret",), _LISTED),
    SecretProperties(
        "/user-manager (tool user-manager) user, router, advanced, customer",
        ("password", "shared-secret", "otp-secret", "paypal-password", "web-private-password"),
        _LISTED,
    ),
    SecretProperties(
        "/user-manager advanced",
        ("paypal-signature",),
        _MANUAL + "authentication-authorization-accounting/user-manager",
    ),
    SecretProperties(
        "/ip hotspot user, profile", ("password", "mac-auth-password", "otp-secret"), _LISTED
    ),
    SecretProperties(
        "/snmp community", ("authentication-password", "encryption-password"), _LISTED
    ),
    SecretProperties("/snmp", ("trap-community",), _MANUAL + "cli-reference/snmp"),
    SecretProperties("/snmp", ("community",), _UNSEEN),
    SecretProperties(
        "/routing ospf interface-template, bgp connection, rip",
        ("auth-key", "tcp-md5-key", "key", "password"),
        _LISTED,
    ),
    SecretProperties(
        "/routing ospf interface, rip interface, is-is",
        ("authentication-key", "area-auth-key", "domain-auth-key"),
        _OLD,
    ),
    SecretProperties("/mpls ldp, /interface vpls", ("auth-key",), _UNSEEN),
    SecretProperties("/tool e-mail", ("password",), _LISTED),
    SecretProperties("/tool sms", ("secret", "sim-pin"), _LISTED),
    SecretProperties("/tool romon, romon port", ("secrets",), _LISTED),
    SecretProperties("/tool fetch", ("password",), _MANUAL + "cli-reference/tool/fetch"),
    SecretProperties("/tool fetch", ("http-auth-password",), _UNSEEN),
    SecretProperties("/ip smb users, /ip socks users", ("password",), _LISTED),
    SecretProperties(
        "/disk",
        (
            "encryption-key",
            "self-encryption-password",
            "smb-password",
            "smb-server-password",
            "nvme-tcp-password",
            "nvme-tcp-server-password",
            "sshfs-password",
        ),
        _LISTED,
    ),
    SecretProperties("/container config", ("password",), _LISTED),
    SecretProperties("/iot mqtt brokers, lora servers", ("password", "key"), _LISTED),
    SecretProperties("/iot lora", ("app-key", "nwk-skey", "app-skey"), _UNSEEN),
    SecretProperties("/tr069-client", ("password", "connection-request-password"), _LISTED),
    SecretProperties(
        "/certificate",
        (
            "passphrase",
            "export-passphrase",
            "key-passphrase",
            "challenge-password",
            "challenge-passphrase",
            "pin",
        ),
        _LISTED,
    ),
    SecretProperties("/system ntp key", ("key-val",), _LISTED),
    SecretProperties("/system upgrade upgrade-package-source", ("password",), _UNSEEN),
    SecretProperties("/lcd pin", ("pin-number",), "help.mikrotik.com: Securing your router"),
)

#: Properties with names that tell nothing, and that are secret in one menu.
IN_ONE_MENU: Final = (
    SecretProperties("/snmp community", ("name",), _MANUAL + "cli-reference/snmp/community"),
    SecretProperties("/container envs", ("value",), _EXPORTS),
    SecretProperties("/zerotier", ("identity",), _LISTED),
)

#: A property that is secret in other menus, and in this one tells the name of a variable.
SHOWN_IN_ONE_MENU: Final = SecretProperties("/container envs", ("key",), _EXPORTS)

#: Properties of RouterOS whose names sound secret and whose values are not.
HARMLESS: Final = frozenset(
    {
        "always-allow-password-login",
        "client-public-key",
        "ca-crl-key",
        "group-key-update",
        "hide-pin-number",
        "host-key-size",
        "host-key-type",
        "key-chain",
        "key-id",
        "key-owner",
        "key-renegotiate-sec",
        "key-size",
        "key-type",
        "key-usage",
        "minimum-password-length",
        "multi-passphrase-group",
        "security.multi-passphrase-group",
        "security.group-key-update",
        "password-authentication",
        "public-key",
        "public-key-file",
        "private-key-file",
        "remote-key",
        "server-public-key",
        "ssh-key-file",
        "static-transmit-key",
        "use-password",
    }
)
