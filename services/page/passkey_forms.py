"""What the doors of passkeys take and give: the JSON forms of W3C Web Authentication (5.1.8 to 5.1.10), bounded; binary is base64url."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from services.page.passkeys import LASTS

ALGORITHMS: Final = (-8, -7, -257)
"""EdDSA, ES256, RS256 (RFC 9053, RFC 8812): what authenticators make, and the library verifies."""

Binary = Annotated[str, Meta(max_length=2000, pattern=r"^[\w-]*$")]
Statement = Annotated[str, Meta(max_length=16_000, pattern=r"^[\w-]*$")]
Identity = Annotated[str, Meta(min_length=1, max_length=1400, pattern=r"^[\w-]*$")]
"""Id of a credential: 1023 bytes at most."""


class PublicKeyOf(Struct, frozen=True):
    """A credential by its id."""

    id: str
    type: str = "public-key"


class Algorithm(Struct, frozen=True):
    """A kind of key that may be made."""

    alg: int
    type: str = "public-key"


class PasskeyOwner(Struct, frozen=True, rename="camel"):
    """Who owns a key that is made."""

    id: str
    name: str
    display_name: str


class PasskeyCreation(Struct, frozen=True, rename="camel", kw_only=True):
    """PublicKeyCredentialCreationOptionsJSON: a key that is found without a name, and used by who it belongs to alone."""

    challenge: str
    rp: dict[str, str]
    user: PasskeyOwner
    exclude_credentials: list[PublicKeyOf]
    pub_key_cred_params: list[Algorithm] = field(default_factory=lambda: [Algorithm(alg) for alg in ALGORITHMS])
    authenticator_selection: dict[str, Any] = field(
        default_factory=lambda: {"residentKey": "required", "requireResidentKey": True, "userVerification": "required"}
    )
    attestation: str = "none"
    timeout: int = LASTS


class PasskeyRequest(Struct, frozen=True, rename="camel", kw_only=True):
    """PublicKeyCredentialRequestOptionsJSON: whichever key the person chooses."""

    challenge: str
    rp_id: str
    user_verification: str = "required"
    timeout: int = LASTS


class MadeResponse(Struct, forbid_unknown_fields=True):
    """What an authenticator said when it made a key."""

    client_data: Statement = field(name="clientDataJSON")
    attestation: Statement = field(name="attestationObject")


class MadeCredential(Struct, forbid_unknown_fields=True):
    """A key that was made."""

    id: Identity
    response: MadeResponse


class UsedResponse(Struct, forbid_unknown_fields=True):
    """What an authenticator said when it signed."""

    client_data: Statement = field(name="clientDataJSON")
    data: Binary = field(name="authenticatorData")
    signature: Binary
    handle: Binary = field(name="userHandle", default="")


class UsedCredential(Struct, forbid_unknown_fields=True):
    """A key that signed."""

    id: Identity
    response: UsedResponse


class PasskeyGiven(Struct, forbid_unknown_fields=True):
    """A key that is to be kept, and what its owner calls it."""

    name: Annotated[str, Meta(min_length=1, max_length=40, pattern=r"\S")]
    credential: MadeCredential


class PasskeyGone(Struct, forbid_unknown_fields=True):
    """One that is to be forgotten."""

    id: Identity


class PasskeyShown(Struct, frozen=True):
    """A passkey as its owner sees it; made and used in ms, 0 where it never was used."""

    id: str
    name: str
    host: str
    made: int
    used: int
