"""The checkers that come with gatekeeper."""

from gatekeeper.auth.access_token import AccessTokenChecker
from gatekeeper.auth.access_token_settings import AccessTokenSettings
from gatekeeper.auth.api_key import ApiKeyChecker, ApiKeySettings
from gatekeeper.auth.basic import BasicChecker, BasicSettings
from gatekeeper.auth.client_certificate import (
    ClientCertificateChecker,
    ClientCertificateSettings,
)
from gatekeeper.auth.grpc_checker import GrpcChecker
from gatekeeper.auth.introspection import IntrospectionChecker, IntrospectionSettings
from gatekeeper.auth.jwt import JwtChecker, JwtSettings
from gatekeeper.auth.key import KeyChecker, KeySettings
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.plugin import TablePlugin, UrlPlugin
from gatekeeper.auth.secret import SecretChecker
from gatekeeper.auth.token_exchange import TokenExchangeChecker, TokenExchangeSettings
from gatekeeper.auth.trust import TrustChecker

basic = TablePlugin("basic", BasicSettings, BasicChecker.configured)
api_key = TablePlugin("api-key", ApiKeySettings, ApiKeyChecker.configured)
key = TablePlugin("key", KeySettings, KeyChecker.configured)
access_token = TablePlugin("access-token", AccessTokenSettings, AccessTokenChecker.configured)
exchange = TablePlugin("exchange", TokenExchangeSettings, TokenExchangeChecker.configured)
introspection = TablePlugin("introspection", IntrospectionSettings, IntrospectionChecker.configured)
jwt = TablePlugin("jwt", JwtSettings, JwtChecker.configured)
client_certificate = TablePlugin(
    "client-certificate", ClientCertificateSettings, ClientCertificateChecker
)
null = UrlPlugin("null", NullChecker.from_url)
trust = UrlPlugin("trust", TrustChecker.from_url)
secret = UrlPlugin("secret", SecretChecker.from_url)
grpc = UrlPlugin("grpc", GrpcChecker.from_url)
