"""Addresses as they may be shown, logged and kept: without user, password and secret parameters."""

import re


def mask_credentials(text: str) -> str:
    """`text` with user, password and secret parameters of every address in it as ***: addresses are shown, logged and kept in reports."""
    user_and_password = r"(?<=://)(?:[^/\s:@]*:(?!\d+(?:/|\s|$))\S*@|[^/\s]*@)"  # a password may hold / and @, a port may not
    text = re.sub(user_and_password, "***@", text)
    text = re.sub(r"(?i)([?&#;][\w-]*(?:pass|pwd|secret|token|key|sig|auth|credential)[\w-]*=)[^&#;\s]+", r"\1***", text)
    return re.sub(r"(?i)(?<!\S)((?:password|passwd|pwd|secret|token)=)[^&#;\s]+", r"\1***", text)  # libpq's host=db password=...
