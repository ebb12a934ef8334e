"""Exports of other makers, written after their manuals, with each secret in double braces."""

from __future__ import annotations

from typing import Final

IOS: Final = """\
Building configuration...

Current configuration : 4711 bytes
!
! Last configuration change at 10:48:40 UTC Thu Feb 16 2017 by nat
! NVRAM config last updated at 10:48:41 UTC Thu Feb 16 2017 by nat
!
version 15.2
no service pad
service timestamps debug datetime msec
service password-encryption
!
hostname core1
!
boot-start-marker
boot-end-marker
!
enable secret 5 {{$1$mERr$hx5rVt7rPNoS4wqbXKX7m0}}
enable secret level 7 9 {{$9$nhEmQVczB7dqsO$X.HsgL6x1il0RxkOSSvyQYwucySCt7qFm4v7pqCxkKM}}
enable password 7 {{0822455D0A16}}
enable password {{clear-text}}
!
username admin privilege 15 secret 5 {{$1$mERr$abcdefghijklmnopqrstu.}}
username joe privilege 1 password 7 {{0822455D0A16544541}}
username bob secret {{hunter22}}
username tom password 0 {{hunter22}}
aaa new-model
aaa authentication login default group tacacs+ local
aaa group server radius RAD
 server-private 10.0.0.5 auth-port 1812 acct-port 1813 key 7 {{0822455D0A16}}
clock timezone CET 1 0
ip domain-name example.net
crypto pki trustpoint TP
 password 7 {{0822455D0A16}}
crypto pki certificate chain TP
 certificate self-signed 01
  3082022B 30820194 A0030201 02020101 300D0609 2A864886 F70D0101 05050030
  quit
crypto isakmp policy 10
 encr aes
 authentication pre-share
crypto isakmp key {{psk-for-all}} address 0.0.0.0
crypto isakmp key 6 {{AAAbbbCCC}} hostname peer.example.net
crypto keyring VPN
  pre-shared-key address 10.1.1.1 key {{psk-one}}
  pre-shared-key address 10.1.1.2 key 6 {{AAbbCC}}
crypto ikev2 keyring K2
 peer ONE
  address 10.1.1.3
  pre-shared-key local {{psk-local}}
  pre-shared-key remote 6 {{DDEEFF}}
key chain EIGRP
 key 1
  key-string 7 {{0822455D0A16}}
 key 2
  key-string {{open text with spaces}}
interface GigabitEthernet0/0
 description password is {{in}} the safe
 ip address 10.0.0.1 255.255.255.0
 ip ospf authentication-key 7 {{0822455D0A16}}
 ip ospf message-digest-key 1 md5 7 {{0822455D0A16}}
 ip ospf message-digest-key 2 md5 {{clear}}
 standby 1 authentication {{standbyx}}
 standby 1 authentication md5 key-string 7 {{0822455D0A16}}
 vrrp 2 authentication text {{vrrpword}}
 isis password {{isisword}} level-2
 ip nhrp authentication {{nhrpword}}
 ppp chap hostname joe
 ppp chap password 7 {{0822455D0A16}}
 ppp pap sent-username joe password 0 {{papword}}
router bgp 65000
 neighbor 10.0.0.2 remote-as 65001
 neighbor 10.0.0.2 password 7 {{0822455D0A16}}
 neighbor 10.0.0.3 password {{bgpword}}
route-map OUT permit 10
 set community 65000:100 no-export
ip community-list standard CL permit 65000:1
snmp-server community {{public-ro}} RO 10
snmp-server community {{private-rw}} view V RW
snmp-server host 10.0.0.9 {{trapword}}
snmp-server host 10.0.0.9 version 2c {{trapword}} bgp
snmp-server host 10.0.0.9 vrf M informs version 2c {{trapword}}
snmp-server user u g v3 auth sha {{authword}} priv aes 128 {{privword}}
snmp-server location Key West
tacacs-server host 10.0.0.8 key 7 {{0822455D0A16}}
tacacs-server key {{tacword}}
radius-server host 10.0.0.7 auth-port 1645 key {{radword}}
radius server R1
 address ipv4 10.0.0.7 auth-port 1812 acct-port 1813
 key 7 {{0822455D0A16}}
tacacs server T1
 address ipv4 10.0.0.8
 key {{tacword2}}
ntp authentication-key 1 md5 {{0822455D0A16}} 7
ntp clock-period 17179840
ip ftp password 7 {{0822455D0A16}}
ip http client password {{httpword}}
line vty 0 4
 password 7 {{0822455D0A16}}
 login
 transport input ssh
end
"""

NXOS: Final = """\
!Command: show running-config
!Running configuration last done at: Mon Jan 13 14:50:45 2020
!Time: Mon Jan 13 15:02:03 2020

version 9.3(2) Bios:version
hostname leaf1
feature password encryption aes
username admin password 5 {{$5$ABCDEF$0123456789abcdefghij}} role network-admin
snmp-server user admin network-admin auth md5 {{0x1234567890abcdef}} priv {{0x1234567890abcdef}} localizedkey
snmp-server host 10.0.0.9 traps version 2c {{trapword}}
snmp-server community {{nxword}} group network-operator
tacacs-server key 7 "{{fewhg123}}"
radius-server host 10.0.0.7 key 7 "{{fewhg123}}" authentication accounting
ntp authentication-key 1 md5 {{fewhg123}} 7
key chain OSPF
  key 1
    key-string 7 {{070c285f4d06}}
interface Ethernet1/1
  description uplink
  ip ospf message-digest-key 1 md5 3 {{070c285f4d06}}
router bgp 65000
  neighbor 10.0.0.2
    password 3 {{070c285f4d06}}
"""

IOSXR: Final = """\
Thu Nov 27 05:00:00.123 UTC
Building configuration...
!! IOS XR Configuration 7.3.2
!! Last configuration change at Sun Oct 12 07:41:47 2014 by xxx
!
hostname xr1
username admin
 group root-lr
 secret 10 {{$6$abcdefgh$ijklmnopqrstuvwxyz}}
 password 7 {{0822455D0A16}}
!
tacacs-server host 10.0.0.8 port 49
 key 7 {{0822455D0A16}}
!
snmp-server community {{xrword}} RO
snmp-server host 10.0.0.9 traps version 2c encrypted {{0822455D0A16}}
key chain K
 key 1
  key-string password {{0822455D0A16}}
  cryptographic-algorithm HMAC-MD5
router bgp 65000
 neighbor 10.0.0.2
  password encrypted {{0822455D0A16}}
  !
router isis 1
 lsp-password hmac-md5 encrypted {{0822455D0A16}}
end
"""

EOS: Final = """\
! Command: show running-config
! Startup-config last modified at Fri Jan 10 09:00:00 2026 by root
! device: leaf1 (DCS-7050, EOS-4.30.1F)
!
hostname leaf1
enable password sha512 {{$6$abcdefgh$ijklmnopqrstuvwxyz}}
username admin privilege 15 role network-admin secret sha512 {{$6$abc$def.ghi/jkl}}
username bob secret 5 {{$1$abc$defghijk}}
aaa root secret sha512 {{$6$abc$def.ghi/jkl}}
snmp-server community {{eosword}} ro
snmp-server host 10.0.0.9 version 2c {{trapword}}
snmp-server user u g v3 auth sha {{authword}} priv aes {{privword}}
tacacs-server host 10.0.0.8 key 7 {{0822455D0A16}}
radius-server key 7 {{0822455D0A16}}
ntp authentication-key 1 md5 7 {{0822455D0A16}}
interface Ethernet1
   ip ospf message-digest-key 1 md5 7 {{0822455D0A16}}
router bgp 65000
   neighbor 10.0.0.2 password 7 {{0822455D0A16}}
   neighbor 10.0.0.2 send-community
end
"""

JUNOS: Final = """\
## Last commit: 2024-01-02 03:04:05 UTC by admin
version 21.4R1.12;
system {
    host-name edge1;
    root-authentication {
        encrypted-password "{{$6$abcdefgh$ijklmnopqrstuvwxyz}}"; ## SECRET-DATA
        ssh-ed25519 "ssh-ed25519 AAAAC3Nza";
    }
    login {
        user joe {
            authentication {
                encrypted-password "{{$1$abc$defghijk}}"; ## SECRET-DATA
            }
        }
    }
    radius-server {
        10.0.0.7 secret "{{$9$abcdefg}}"; ## SECRET-DATA
    }
    tacplus-server {
        10.0.0.8 {
            secret "{{$9$hijklmn}}"; ## SECRET-DATA
        }
    }
    ntp {
        authentication-key 1 type md5 value "{{$9$opqrst}}"; ## SECRET-DATA
    }
}
snmp {
    community {{junosword}} {
        authorization read-only;
    }
}
protocols {
    bgp {
        group A {
            authentication-key "{{$9$uvwxyz}}"; ## SECRET-DATA
            neighbor 10.0.0.2;
        }
    }
    ospf {
        area 0.0.0.0 {
            interface ge-0/0/0.0 {
                authentication {
                    md5 1 key "{{$9$abcxyz}}"; ## SECRET-DATA
                    simple-password "{{$9$simple}}";
                }
            }
        }
    }
}
policy-options {
    community CUSTOMERS members 65000:100;
    community NOEXP members no-export;
}
security {
    ike {
        policy P {
            pre-shared-key ascii-text "{{$9$pskpsk}}"; ## SECRET-DATA
        }
    }
}
"""

JUNOS_SET: Final = """\
set version 21.4R1.12
set system host-name edge1
set system root-authentication encrypted-password "{{$6$abcdefgh$ijklmnop}}"
set system radius-server 10.0.0.7 secret "{{$9$abcdefg}}"
set snmp community {{junosword}} authorization read-only
set protocols bgp group A authentication-key "{{$9$uvwxyz}}"
set policy-options community CUSTOMERS members 65000:100
set security ike policy P pre-shared-key ascii-text "{{$9$pskpsk}}"
"""

FORTIOS: Final = """\
#config-version=FGT60F-7.2.5-FW-build1517-230606:opmode=0:vdom=0:user=admin
#conf_file_ver=1234567890
#buildno=1517
config system global
    set hostname "fw1"
    set admin-server-cert "self-sign"
end
config system password-policy
    set status enable
end
config system admin
    edit "admin"
        set accprofile "super_admin"
        set password ENC {{SH2abcdefghijklmnopqrstuvwxyz0123456789=}}
        set ssh-public-key1 "ssh-ed25519 AAAAC3Nza"
    next
end
config system snmp community
    edit 1
        set name "{{fortiword}}"
    next
end
config user radius
    edit "rad"
        set server "10.0.0.7"
        set secret ENC {{AAAAabcdefgh0123456789}}
    next
end
config vpn ipsec phase1-interface
    edit "vpn"
        set interface "wan1"
        set psksecret ENC {{BBBBabcdefgh0123456789}}
    next
end
config wireless-controller vap
    edit "wifi"
        set passphrase ENC {{CCCCabcdefgh0123456789}}
    next
end
config vpn certificate local
    edit "Fortinet_Factory"
        set password ENC {{DDDDabcdefgh0123456789}}
        set private-key {{"-----BEGIN ENCRYPTED PRIVATE KEY-----}}
{{MIIFHDBOBgkqhkiG9w0BBQ0wQTApBgkqhkiG9w0BBQwwHAQI}}
{{abcdefghijklmnopqrstuvwxyz}}
{{-----END ENCRYPTED PRIVATE KEY-----"}}
        set certificate "-----BEGIN CERTIFICATE-----
MIIDdzCCAl+gAwIBAgIE
-----END CERTIFICATE-----"
    next
end
config router bgp
    config neighbor
        edit "10.0.0.2"
            set password ENC {{EEEEabcdefgh0123456789}}
            set remote-as 65001
        next
    end
end
"""

PANOS: Final = """\
<?xml version="1.0"?>
<config version="10.1.0" urldb="paloaltonetworks" detail-version="10.1.6">
  <mgt-config>
    <users>
      <entry name="admin">
        <phash>{{$5$abcdefgh$ijklmnopqrstuvwxyz}}</phash>
        <public-key>c3NoLXJzYSBBQUFB</public-key>
      </entry>
    </users>
  </mgt-config>
  <shared>
    <certificate>
      <entry name="c">
        <private-key>{{-AQ==abcdefghijklmnop}}</private-key>
        <public-key>-----BEGIN CERTIFICATE-----
MIIDdzCCAl+gAwIBAgIE
-----END CERTIFICATE-----
</public-key>
      </entry>
    </certificate>
    <server-profile>
      <radius>
        <secret>{{-AQ==qrstuvwxyz}}</secret>
      </radius>
    </server-profile>
  </shared>
  <devices>
    <hostname>pa1</hostname>
    <snmp-community-string>{{paword}}</snmp-community-string>
    <pre-shared-key>
      <key>{{-AQ==psk}}</key>
    </pre-shared-key>
  </devices>
</config>
"""

VYOS: Final = """\
set interfaces ethernet eth0 address '10.0.0.1/24'
set interfaces wireguard wg0 private-key '{{aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789+/=}}'
set interfaces wireguard wg0 peer A public-key 'AAAApublic='
set interfaces wireguard wg0 peer A preshared-key '{{pskpskpsk=}}'
set interfaces pppoe pppoe0 authentication password '{{pppword}}'
set protocols bgp neighbor 10.0.0.2 password '{{bgpword}}'
set protocols ospf interface eth0 authentication md5 key-id 1 md5-key '{{ospfword}}'
set policy route-map OUT rule 10 set community replace '65000:100'
set service snmp community {{vyosword}} authorization 'ro'
set system host-name 'vy1'
set system login user vyos authentication encrypted-password '{{$6$abcdefgh$ijklmnop}}'
set system login user vyos authentication plaintext-password ''
set system login user vyos authentication public-keys a key 'AAAAC3Nza'
set system login radius server 10.0.0.7 key '{{radword}}'
set vpn ipsec authentication psk {{A}} secret '{{vpnword}}'
set vpn l2tp remote-access ipsec-settings authentication pre-shared-secret '{{l2tpword}}'
"""

EDGEOS: Final = """\
firewall {
    all-ping enable
}
interfaces {
    ethernet eth0 {
        address 10.0.0.1/24
        pppoe 0 {
            password {{pppword}}
            user-id joe
        }
    }
}
policy {
    route-map OUT {
        rule 10 {
            set {
                community "65000:100 65000:200"
            }
        }
    }
}
service {
    snmp {
        community {{edgeword}} {
            authorization ro
        }
    }
}
system {
    host-name edge1
    login {
        user ubnt {
            authentication {
                encrypted-password {{$6$abcdefgh$ijklmnop}}
                plaintext-password ""
            }
            level admin
        }
    }
}
vpn {
    ipsec {
        site-to-site {
            peer 10.0.0.2 {
                authentication {
                    mode pre-shared-secret
                    pre-shared-secret {{vpnword}}
                }
            }
        }
    }
}
/* === vyatta-config-version: "config-management@1" === */
/* Release version: v1.10.11.5274269.200221.1028 */
"""

ARUBAOS: Final = """\
version 8.6
enable secret "{{0123456789abcdef0123456789abcdef0123456789ab}}"
hostname "aruba1"
masterip 10.0.0.5 ipsec {{masterword}}
ip access-list session allowall
  any any any permit
!
aaa authentication-server radius "rad"
   host "10.0.0.7"
   key {{0123456789abcdef}}
!
wlan ssid-profile "corp"
   essid "corp"
   opmode wpa2-psk-aes
   wpa-passphrase {{0123456789abcdef}}
!
mgmt-user admin root {{0123456789abcdef0123456789abcdef0123456789ab}}
snmp-server community "{{arubaword}}"
end
"""

COMWARE: Final = """\
#
 version 7.1.070, Release 6312P03
#
 sysname sw1
#
 super password role network-admin hash {{$h$6$abcdefgh$ijklmnop}}
#
local-user admin class manage
 password hash {{$h$6$abcdefgh$ijklmnop}}
 service-type ssh
 authorization-attribute user-role network-admin
#
 snmp-agent community read cipher {{$c$3$abcdefgh==}}
 snmp-agent community write {{cwword}}
 snmp-agent usm-user v3 u g cipher authentication-mode sha {{$c$3$auth==}} privacy-mode aes128 {{$c$3$priv==}}
#
radius scheme rad
 primary authentication 10.0.0.7
 key authentication cipher {{$c$3$radkey==}}
#
interface Vlan-interface1
 ip address 10.0.0.1 255.255.255.0
 ospf authentication-mode md5 1 cipher {{$c$3$ospf==}}
 vrrp vrid 1 authentication-mode simple cipher {{$c$3$vrrp==}}
#
bgp 65000
 peer 10.0.0.2 password cipher {{$c$3$bgp==}}
#
return
"""

OPNSENSE: Final = """\
<?xml version="1.0"?>
<opnsense>
  <system>
    <hostname>fw1</hostname>
    <user>
      <name>root</name>
      <password>{{$2y$10$abcdefghijklmnopqrstuvwxyz}}</password>
      <otp_seed>{{ABCDEFGH}}</otp_seed>
      <authorizedkeys>c3NoLXJzYSBBQUFB</authorizedkeys>
      <apikeys>
        <item>
          <key>{{keykeykey}}</key>
          <secret>{{$6$$abcdefgh}}</secret>
        </item>
      </apikeys>
    </user>
  </system>
  <snmpd>
    <rocommunity>{{opnword}}</rocommunity>
  </snmpd>
  <ipsec>
    <phase1>
      <pre-shared-key>{{vpnword}}</pre-shared-key>
    </phase1>
  </ipsec>
  <openvpn>
    <tls>{{IyBPcGVuVlBO}}</tls>
    <shared_key/>
  </openvpn>
  <ppps>
    <ppp>
      <password><![CDATA[{{cdataword}}]]></password>
    </ppp>
  </ppps>
  <cert>
    <crt>LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t</crt>
    <prv>{{LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t}}</prv>
  </cert>
  <revision>
    <username>root@10.0.0.2</username>
    <time>1700000000.1234</time>
    <description>/firewall_rules_edit.php made changes</description>
  </revision>
</opnsense>
"""

#: By the title of the family, each with the text of a name or two.
TEXTS: Final = (
    ("IOS, IOS XE", IOS),
    ("NX-OS", NXOS),
    ("IOS XR", IOSXR),
    ("EOS", EOS),
    ("Junos", JUNOS),
    ("Junos", JUNOS_SET),
    ("FortiOS", FORTIOS),
    ("PAN-OS", PANOS),
    ("VyOS", VYOS),
    ("EdgeOS", EDGEOS),
    ("ArubaOS", ARUBAOS),
    ("Comware", COMWARE),
    ("OPNsense", OPNSENSE),
)
