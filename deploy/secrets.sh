#!/bin/sh
# Create random secrets for docker-compose.yml in deploy/secrets, or in the folder given as $1. Existing
# secrets are never overwritten, since the database keeps its initial password.
set -eu

folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder" ]; then
    echo "$folder already exists and was not changed. Move it away to create new secrets." >&2
    exit 1
fi

random() { # $1 random bytes, as hexadecimal digits
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

# Only the owner can enter the folder. The files themselves are readable by all, since containers read them
# as uid 10001 or as the user of PostgreSQL or Valkey.
umask 077
mkdir -p "$folder.new"
umask 022
password=$(random 24)
printf '%s\n' "$password" >"$folder.new/postgres_password"
printf 'postgresql://clipcite:%s@postgres/clipcite\n' "$password" >"$folder.new/clipcite_database_url"
printf '%s\n' "$(random 32)" >"$folder.new/clipcite_admin_key"
password=$(random 24)
printf 'requirepass %s\n' "$password" >"$folder.new/valkey_config"
printf 'redis://:%s@redis/0\n' "$password" >"$folder.new/clipcite_redis_url"
access_key=GK$(random 12)
secret_key=$(random 32)
printf '[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n' "$access_key" "$secret_key" \
    >"$folder.new/aws_credentials"
umask 077 # read by compose, not by a container
printf 'GARAGE_DEFAULT_ACCESS_KEY=%s\nGARAGE_DEFAULT_SECRET_KEY=%s\nGARAGE_RPC_SECRET=%s\n' \
    "$access_key" "$secret_key" "$(random 32)" >"$folder.new/garage.env"
mv "$folder.new" "$folder"
echo "Created secrets in $folder. The API key is in clipcite_admin_key."
