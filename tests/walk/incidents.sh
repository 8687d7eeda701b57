# What the page of incidents takes for granted: whose token, what a new value, a certificate that ends and its successor are.
export KIKET_TOKEN_FILE=operator.token
umask 077
printf 'mc-new-at-the-provider' >new_value
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=acme -days 1 -keyout old.key -out old.pem 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=acme -days 365 -keyout new.key -out new.pem 2>/dev/null
kiket extensions secrets set --organization acme --key CLIENT_CERT --value-file old.pem
kiket extensions secrets set --organization acme --key CLIENT_KEY --value-file old.key
umask 022
