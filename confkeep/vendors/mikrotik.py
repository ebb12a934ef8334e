"""RouterOS: which properties hold secrets, and which only have names that sound so."""

from __future__ import annotations

from typing import Final

from confkeep.vendors.rules import SecretProperties

_DOCS: Final = "help.mikrotik.com/docs/display/ROS/"
_WIKI: Final = "wiki.mikrotik.com/wiki/Manual:"

#: Properties that are secret in whichever menu they stand. The menus say where the manual has them.
PROPERTIES: Final = (
    SecretProperties("/user", ("password",), _DOCS + "User"),
    SecretProperties("/ppp secret", ("password",), _DOCS + "PPP+AAA"),
    SecretProperties(
        "/interface pppoe-client, l2tp-client, pptp-client, sstp-client, ovpn-client, ppp-client",
        ("password", "key-passphrase"),
        _DOCS + "Virtual+Private+Networks",
    ),
    SecretProperties(
        "/interface l2tp-server server, l2tp-client, eoip, gre, ipip, eoipv6, gre6, ipipv6",
        ("ipsec-secret",),
        _DOCS + "Virtual+Private+Networks",
    ),
    SecretProperties(
        "/interface wireguard, /interface wireguard peers",
        ("private-key", "preshared-key", "client-private-key"),
        _DOCS + "WireGuard",
    ),
    SecretProperties("/ip cloud back-to-home-user", ("private-key",), _DOCS + "Back+To+Home"),
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
        _WIKI + "Interface/Wireless",
    ),
    SecretProperties(
        "/interface wireless access-list, connect-list, nv2",
        ("private-key", "private-pre-shared-key", "management-protection-key", "nv2-preshared-key"),
        _WIKI + "Interface/Wireless",
    ),
    SecretProperties(
        "/caps-man security, configuration, access-list",
        ("passphrase", "security.passphrase", "private-passphrase", "eap-radius-password"),
        _WIKI + "CAPsMAN",
    ),
    SecretProperties(
        "/interface wifi (wifiwave2) security, configuration, access-list, multi-passphrase",
        (
            "passphrase",
            "security.passphrase",
            "eap-password",
            "security.eap-password",
            "security.owe-transition-key",
        ),
        _DOCS + "WiFi",
    ),
    SecretProperties("/interface w60g", ("password",), _DOCS + "W60G"),
    SecretProperties("/interface dot1x client", ("password",), _DOCS + "Dot1X"),
    SecretProperties("/interface vrrp", ("password",), _DOCS + "VRRP"),
    SecretProperties("/interface macsec", ("cak",), _DOCS + "MACsec"),
    SecretProperties("/interface lte, ppp-client", ("pin",), _DOCS + "LTE"),
    SecretProperties("/interface lte apn", ("password",), _DOCS + "LTE"),
    SecretProperties("/ip ipsec identity, peer, user", ("secret", "password"), _DOCS + "IPsec"),
    SecretProperties(
        "/ip ipsec manual-sa",
        ("ah-key", "esp-auth-key", "esp-enc-key"),
        _WIKI + "IP/IPsec",
    ),
    SecretProperties("/radius", ("secret",), _DOCS + "RADIUS"),
    SecretProperties(
        "/user-manager (tool user-manager) user, router, advanced, customer",
        (
            "password",
            "shared-secret",
            "otp-secret",
            "paypal-password",
            "paypal-signature",
            "web-private-password",
        ),
        _DOCS + "User+Manager",
    ),
    SecretProperties(
        "/ip hotspot user, profile", ("password", "mac-auth-password"), _DOCS + "HotSpot"
    ),
    SecretProperties(
        "/snmp, /snmp community",
        ("trap-community", "community", "authentication-password", "encryption-password"),
        _DOCS + "SNMP",
    ),
    SecretProperties(
        "/routing ospf interface-template, interface, rip interface, keys, is-is",
        ("auth-key", "authentication-key", "key", "area-auth-key", "domain-auth-key"),
        _DOCS + "OSPF",
    ),
    SecretProperties("/routing bgp connection, template, peer", ("tcp-md5-key",), _DOCS + "BGP"),
    SecretProperties("/mpls ldp, /interface vpls", ("auth-key",), _DOCS + "LDP"),
    SecretProperties("/tool e-mail", ("password",), _DOCS + "E-mail"),
    SecretProperties("/tool sms", ("secret", "sim-pin"), _DOCS + "SMS"),
    SecretProperties("/tool romon, /tool romon port", ("secrets",), _DOCS + "RoMON"),
    SecretProperties("/tool fetch", ("password", "http-auth-password"), _DOCS + "Fetch"),
    SecretProperties("/ip smb users, /disk", ("password", "smb-password"), _DOCS + "SMB"),
    SecretProperties("/disk", ("encryption-key", "nvme-tcp-password"), _DOCS + "Disks"),
    SecretProperties("/ip socks users", ("password",), _DOCS + "SOCKS"),
    SecretProperties("/container config", ("password",), _DOCS + "Container"),
    SecretProperties("/iot mqtt brokers", ("password",), _DOCS + "MQTT"),
    SecretProperties("/iot lora", ("app-key", "nwk-skey", "app-skey"), _DOCS + "LoRa"),
    SecretProperties(
        "/tr069-client", ("password", "connection-request-password"), _DOCS + "TR-069"
    ),
    SecretProperties(
        "/certificate import, scep-server, add-scep",
        ("passphrase", "export-passphrase", "challenge-password"),
        _DOCS + "Certificates",
    ),
    SecretProperties("/system backup save, load", ("password",), _DOCS + "Backup"),
    SecretProperties("/system ntp key", ("key",), _DOCS + "NTP"),
    SecretProperties(
        "/system swos, /system upgrade upgrade-package-source", ("password",), _WIKI + "Upgrade"
    ),
    SecretProperties("/lcd pin", ("pin-number",), _WIKI + "LCD_TouchScreen"),
)

#: Properties with names that tell nothing, and that are secret in one menu.
IN_ONE_MENU: Final = (
    SecretProperties("/snmp community", ("name",), _DOCS + "SNMP"),
    SecretProperties("/container envs", ("value",), _DOCS + "Container"),
    SecretProperties("/zerotier", ("identity",), _DOCS + "ZeroTier"),
)

#: A property that is secret in other menus, and in this one tells the name of a variable.
SHOWN_IN_ONE_MENU: Final = SecretProperties("/container envs", ("key",), _DOCS + "Container")

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
