#!/bin/sh
# Random secrets for docker-compose.yml, into deploy/secrets (or the folder that is named). Needs nothing but
# a shell and a Unix. Existing ones are never overwritten: the database keeps the password it was made with.
set -eu

folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder" ]; then
    echo "$folder is there already, and is left as it is. Move it away to make new secrets." >&2
    exit 1
fi

random() { # $1 bytes, as hexadecimal digits
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

# The folder is its owner's only. A container sees a file of it as that file is, and reads it as uid 10001
# or as PostgreSQL's own user: so the files themselves are readable.
umask 077
mkdir -p "$folder.new"
umask 022
password=$(random 24)
printf '%s\n' "$password" >"$folder.new/postgres_password"
printf 'postgresql://clipcite:%s@postgres/clipcite\n' "$password" >"$folder.new/clipcite_database_url"
printf '%s\n' "$(random 32)" >"$folder.new/clipcite_admin_key"
access_key=GK$(random 12)
secret_key=$(random 32)
printf '%s\n' "$access_key" >"$folder.new/clipcite_s3_access_key"
printf '%s\n' "$secret_key" >"$folder.new/clipcite_s3_secret_key"
umask 077 # read by compose, in no container
printf 'GARAGE_DEFAULT_ACCESS_KEY=%s\nGARAGE_DEFAULT_SECRET_KEY=%s\nGARAGE_RPC_SECRET=%s\n' \
    "$access_key" "$secret_key" "$(random 32)" >"$folder.new/garage.env"
mv "$folder.new" "$folder"
echo "Made the secrets in $folder. The key of the API is in clipcite_admin_key."
