"""allauth's forms in our words, with the hints that password managers and phone keyboards read."""

from __future__ import annotations

from typing import Any

from allauth.account import forms as allauth
from django import forms
from django.utils.translation import gettext_lazy as _


class _Worded:
    """Label, help and input attributes per field, set after allauth has built its fields."""

    words: dict[str, tuple[Any, Any, dict[str, str]]] = {}
    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (label, text, attrs) in self.words.items():
            if name in self.fields:
                field = self.fields[name]
                field.label, field.help_text = label, text
                field.widget.attrs.pop("placeholder", None)
                field.widget.attrs |= attrs


_EMAIL = {"autocomplete": "username", "inputmode": "email", "autocapitalize": "none", "spellcheck": "false"}
_NEW = {"autocomplete": "new-password"}
_NOW = {"autocomplete": "current-password"}
_CODE = {"autocomplete": "one-time-code", "inputmode": "numeric", "class": "code-entry", "maxlength": "6"}
_LENGTH = _("At least 8 characters; a phrase you have used nowhere else is best.")


class LoginForm(_Worded, allauth.LoginForm):
    words = {"login": (_("E-mail"), "", _EMAIL), "password": (_("Password"), "", _NOW)}


class SignupForm(_Worded, allauth.SignupForm):
    words = {
        "email": (_("E-mail"), _("We send a six-digit code there."), {**_EMAIL, "autocomplete": "email"}),
        "password1": (_("Password"), _LENGTH, _NEW),
    }


class ResetPasswordForm(_Worded, allauth.ResetPasswordForm):
    words = {"email": (_("E-mail"), "", _EMAIL)}


class NewPasswordForm(_Worded, allauth.ResetPasswordKeyForm):
    words = {"password1": (_("New password"), _LENGTH, _NEW), "password2": (_("New password, again"), "", _NEW)}


class ChangePasswordForm(_Worded, allauth.ChangePasswordForm):
    words = {"oldpassword": (_("Present password"), "", _NOW), **NewPasswordForm.words}


class SetPasswordForm(_Worded, allauth.SetPasswordForm):
    words = NewPasswordForm.words


class ReauthenticateForm(_Worded, allauth.ReauthenticateForm):
    words = {"password": (_("Password"), "", _NOW)}


class EmailCodeForm(_Worded, allauth.ConfirmEmailVerificationCodeForm):
    words = {"code": (_("Six-digit code"), "", _CODE)}


class ResetCodeForm(_Worded, allauth.ConfirmPasswordResetCodeForm):
    words = {"code": (_("Six-digit code"), "", _CODE)}
