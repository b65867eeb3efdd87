#!/usr/bin/env python3
"""MSAL, Microsoft's own library, judges the Entra stand-in.

ENTRA_AUTHORITY, _TENANT, _CLIENT_ID, _CLIENT_SECRET, _SCOPE, _KEY_FILE, _CERTIFICATE_FILE and _CA come from the environment.
The tokens are checked by PyJWT against the keys that the stand-in publishes.
"""

import datetime
import hashlib
import json
import os
import pathlib
import ssl
import time
import uuid

import jwt
import msal
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from proofs import attempt, end, equal, proof

AUTHORITY, TENANT, CA = (os.environ[f"ENTRA_{name}"] for name in ("AUTHORITY", "TENANT", "CA"))
CLIENT, SECRET, SCOPE = (os.environ[f"ENTRA_{name}"] for name in ("CLIENT_ID", "CLIENT_SECRET", "SCOPE"))
BASE = f"{AUTHORITY}/{TENANT}"
KEY = pathlib.Path(os.environ["ENTRA_KEY_FILE"]).read_text()
CERTIFICATE = pathlib.Path(os.environ["ENTRA_CERTIFICATE_FILE"]).read_text()


class Recorder(requests.Session):
    """Every address that MSAL asks."""

    def __init__(self):
        super().__init__()
        self.verify, self.asked, self.named = CA, [], []

    def request(self, method, url, **more):
        self.asked.append((method.upper(), url))
        self.named.append((more.get("headers") or {}).get("client-request-id"))
        return super().request(method, url, **{"timeout": 20, **more})


def application(credential=SECRET, client=CLIENT, tenant=TENANT, **more):
    http = Recorder()
    # The authority is no host of Microsoft's: instance discovery, which would ask Microsoft about it, is off.
    made = msal.ConfidentialClientApplication(
        client, client_credential=credential, authority=f"{AUTHORITY}/{tenant}", instance_discovery=False, http_client=http, **more)
    return made, http


def refusal(result):
    return result.get("error"), result.get("error_codes")


def secrets():
    app, http = application()
    first = app.acquire_token_for_client([SCOPE])
    proof("secret", "a client secret gets a token", "access_token" in first and first["token_type"] == "Bearer" and first["expires_in"] == 3600, first.get("error_description"))
    equal("secret", "MSAL asked this authority only", {url.split("/")[2] for _, url in http.asked}, {AUTHORITY.split("/")[2]})
    asked = len(http.asked)
    second = app.acquire_token_for_client([SCOPE])
    equal("cache", "the second call is served from MSAL's cache", (second.get("token_source"), second["access_token"] == first["access_token"], len(http.asked)), ("cache", True, asked))
    app.remove_tokens_for_client()
    third = app.acquire_token_for_client([SCOPE])
    proof("cache", "without the cache another token is issued", third.get("token_source") == "identity_provider" and third["access_token"] != first["access_token"])
    claims(first["access_token"])

    wrong = application("not-the-secret")[0].acquire_token_for_client([SCOPE])
    equal("errors", "a wrong secret is AADSTS7000215", (refusal(wrong), "AADSTS7000215: Invalid client secret provided." in wrong["error_description"]), (("invalid_client", [7000215]), True))
    proof("errors", "a refusal has trace_id, correlation_id and timestamp", all(wrong.get(k) for k in ("trace_id", "correlation_id", "timestamp")) and wrong["trace_id"] in wrong["error_description"], wrong)
    proof("errors", "the secret is in no refusal", "not-the-secret" not in json.dumps(wrong))
    unknown = str(uuid.uuid4())
    equal("errors", "an unknown application is AADSTS700016", refusal(application(client=unknown)[0].acquire_token_for_client([SCOPE])), ("unauthorized_client", [700016]))
    equal("errors", "a scope without /.default is AADSTS1002012", refusal(app.acquire_token_for_client([SCOPE.removesuffix("/.default")])), ("invalid_scope", [1002012]))
    equal("errors", "an unknown resource is AADSTS500011", refusal(app.acquire_token_for_client(["api://nobody/.default"])), ("invalid_resource", [500011]))
    app, http = application("not-the-secret")
    refused = app.acquire_token_for_client([SCOPE])
    proof("errors", "a refusal repeats the caller's correlation id", refused.get("correlation_id") in http.named and http.named[-1], (refused.get("correlation_id"), http.named))

    def no_tenant():
        try:
            application(tenant="no-such-tenant")[0].acquire_token_for_client([SCOPE])
        except ValueError as error:
            return "Unable to get authority configuration" in str(error) or "authority" in str(error).lower(), True
        return "nothing was refused", True

    attempt("errors", "an unknown tenant has no configuration", no_tenant)


def claims(token):
    configuration = requests.get(f"{BASE}/v2.0/.well-known/openid-configuration", verify=CA, timeout=20).json()
    equal("discovery", "openid-configuration names this tenant's end points",
          [configuration[k] for k in ("issuer", "token_endpoint", "jwks_uri")], [f"{BASE}/v2.0", f"{BASE}/oauth2/v2.0/token", f"{BASE}/discovery/v2.0/keys"])
    proof("discovery", "... and both ways to authenticate", {"client_secret_post", "private_key_jwt"} <= set(configuration["token_endpoint_auth_methods_supported"]))
    keys = jwt.PyJWKClient(configuration["jwks_uri"], ssl_context=ssl.create_default_context(cafile=CA))
    header = jwt.get_unverified_header(token)
    resource = SCOPE.removesuffix("/.default")
    verify = lambda text, **more: jwt.decode(text, keys.get_signing_key_from_jwt(text).key, algorithms=["RS256"], **{"audience": resource, "issuer": configuration["issuer"], **more})  # noqa: E731
    body = verify(token)
    equal("token", "signature, audience, issuer and life hold against the published keys", (header["alg"], header["typ"], body["exp"] - body["iat"]), ("RS256", "JWT", 3600))
    equal("token", "its claims name the application", (body["appid"], body["azp"], body["tid"], body["sub"] == body["oid"], body["ver"], body["idtyp"]), (CLIENT, CLIENT, TENANT, True, "2.0", "app"))
    proof("token", "it is valid now", body["nbf"] <= time.time() < body["exp"])
    head, payload, signature = token.split(".")
    for what, text, kind, more in (
        ("a changed signature", ".".join([head, payload, signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]]), jwt.InvalidSignatureError, {}),
        ("another audience", token, jwt.InvalidAudienceError, {"audience": "api://another"}),
        ("another issuer", token, jwt.InvalidIssuerError, {"issuer": "https://login.example/x"}),
    ):
        try:
            verify(text, **more)
            proof("token", f"{what} is seen", False, "it was taken")
        except kind:
            proof("token", f"{what} is seen", True)


def certificates():
    der = x509.load_pem_x509_certificate(CERTIFICATE.encode()).public_bytes(serialization.Encoding.DER)
    by_both = application({"private_key": KEY, "public_certificate": CERTIFICATE})[0].acquire_token_for_client([SCOPE])
    proof("certificate", "an assertion with x5t#S256 (PS256) gets a token", "access_token" in by_both, by_both.get("error_description"))
    by_sha1 = application({"private_key": KEY, "thumbprint": hashlib.sha1(der).hexdigest()})[0].acquire_token_for_client([SCOPE])
    proof("certificate", "an assertion with x5t (RS256) gets a token", "access_token" in by_sha1, by_sha1.get("error_description"))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    stranger = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    stranger = stranger.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    stranger = stranger.public_bytes(serialization.Encoding.PEM).decode()
    equal("certificate", "a certificate that is not registered is AADSTS700027", refusal(application({"private_key": pem, "public_certificate": stranger})[0].acquire_token_for_client([SCOPE])), ("invalid_client", [700027]))
    equal("certificate", "another key under a registered thumbprint is AADSTS700027", refusal(application({"private_key": pem, "public_certificate": CERTIFICATE})[0].acquire_token_for_client([SCOPE])), ("invalid_client", [700027]))

    def assertion(**changed):
        body = {"aud": f"{BASE}/oauth2/v2.0/token", "iss": CLIENT, "sub": CLIENT, "jti": str(uuid.uuid4()), "nbf": int(time.time()), "exp": int(time.time()) + 600, **changed}
        thumbprint = jwt.utils.base64url_encode(hashlib.sha256(der).digest()).decode()
        return jwt.encode(body, KEY, algorithm="PS256", headers={"x5t#S256": thumbprint})

    def ask(signed):
        form = {"grant_type": "client_credentials", "client_id": CLIENT, "scope": SCOPE, "client_assertion": signed, "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}
        return requests.post(f"{BASE}/oauth2/v2.0/token", data=form, verify=CA, timeout=20).json()

    proof("certificate", "an assertion made by PyJWT gets a token too", "access_token" in ask(assertion()))
    for what, changed, code in (
        ("for another audience", {"aud": "https://login.example/token"}, 700023),
        ("that has ended", {"nbf": int(time.time()) - 7200, "exp": int(time.time()) - 3600}, 700024),
        ("of another issuer", {"iss": str(uuid.uuid4())}, 700021),
    ):
        equal("certificate", f"an assertion {what} is AADSTS{code}", refusal(ask(assertion(**changed))), ("invalid_client", [code]))
    equal("certificate", "what is no JWT is AADSTS50027", refusal(ask("x.y.z")), ("invalid_client", [50027]))


def forms():
    def ask(**form):
        reply = requests.post(f"{BASE}/oauth2/v2.0/token", data=form, verify=CA, timeout=20)
        return reply.status_code, *refusal(reply.json())

    equal("errors", "no credential is AADSTS7000218", ask(grant_type="client_credentials", client_id=CLIENT, scope=SCOPE), (401, "invalid_client", [7000218]))
    equal("errors", "another grant type is AADSTS70003", ask(grant_type="password", client_id=CLIENT, scope=SCOPE), (400, "unsupported_grant_type", [70003]))
    equal("errors", "a missing parameter is AADSTS900144", (ask(client_id=CLIENT), ask(grant_type="client_credentials")), ((400, "invalid_request", [900144]),) * 2)
    reply = requests.post(f"{AUTHORITY}/no-such-tenant/oauth2/v2.0/token", data={"grant_type": "client_credentials"}, verify=CA, timeout=20)
    equal("errors", "an unknown tenant is AADSTS90002", (reply.status_code, *refusal(reply.json())), (400, "invalid_request", [90002]))


if __name__ == "__main__":
    secrets()
    certificates()
    forms()
    end()
