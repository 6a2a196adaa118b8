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
printf '%s\n' "$(random 32)" >"$folder.new/clipcite_api_key"
mv "$folder.new" "$folder"
echo "Made the secrets in $folder. The key of the API is in clipcite_api_key."
