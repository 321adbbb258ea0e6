#!/usr/bin/env bash
# Put the certificate of MACOS_CERTIFICATE (a .p12 in base64, its password in MACOS_CERTIFICATE_PASSWORD) into a keychain
# of its own, for the length of this job. `make certificate`; never run yet.
set -euo pipefail

: "${MACOS_CERTIFICATE:?}" "${MACOS_CERTIFICATE_PASSWORD:?}" "${RUNNER_TEMP:?}"
keychain="$RUNNER_TEMP/nibble.keychain-db"
file="$RUNNER_TEMP/certificate.p12"
password="$(uuidgen)"
trap 'rm -f "$file"' EXIT

printf %s "$MACOS_CERTIFICATE" | base64 --decode > "$file"
security create-keychain -p "$password" "$keychain"
security set-keychain-settings -lut 21600 "$keychain"
security unlock-keychain -p "$password" "$keychain"
security import "$file" -P "$MACOS_CERTIFICATE_PASSWORD" -k "$keychain" -t cert -f pkcs12 -T /usr/bin/codesign
security set-key-partition-list -S apple-tool:,apple: -s -k "$password" "$keychain" > /dev/null
security list-keychains -d user -s "$keychain" login.keychain-db
