"""The checkers that come with gatekeeper."""

from gatekeeper.auth.api_key import ApiKeyChecker, ApiKeySettings
from gatekeeper.auth.basic import BasicChecker, BasicSettings
from gatekeeper.auth.null import NullChecker
from gatekeeper.auth.plugin import TablePlugin, UrlPlugin
from gatekeeper.auth.secret import SecretChecker
from gatekeeper.auth.trust import TrustChecker

basic = TablePlugin("basic", BasicSettings, BasicChecker.configured)
api_key = TablePlugin("api-key", ApiKeySettings, ApiKeyChecker.configured)
null = UrlPlugin("null", NullChecker.from_url)
trust = UrlPlugin("trust", TrustChecker.from_url)
secret = UrlPlugin("secret", SecretChecker.from_url)
