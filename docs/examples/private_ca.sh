#!/bin/sh
# Makes a certificate authority of your own in FOLDER, once, and a certificate for each NAME: a host's
# name or address for the server, any other name for a client.   private_ca.sh FOLDER NAME...
# Whoever has ca.key can sign for all who trust ca.pem: keep it off the machines that run the services.
set -eu
umask 077
mkdir -p "$1"
cd "$1"
shift
if [ ! -e ca.pem ]; then
    cat > ca.cnf <<'END'
[req]
prompt = no
distinguished_name = name
[name]
CN = confkeep
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -days 3650 -config ca.cnf -extensions ca -out ca.pem
fi
for name; do
    case $name in
    *:*) kind=IP ;;
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
    esac
    cat > "$name.cnf" <<END
[req]
prompt = no
distinguished_name = name
[name]
CN = $name
[one]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $kind:$name
END
    openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
    openssl req -new -key "$name.key" -config "$name.cnf" |
        openssl x509 -req -days 365 -CA ca.pem -CAkey ca.key -CAcreateserial \
            -extfile "$name.cnf" -extensions one -out "$name.pem"
    openssl verify -x509_strict -CAfile ca.pem "$name.pem"
done
