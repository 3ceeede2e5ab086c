"""The pages of django-allauth that we offer, by name; the rest of it has no address here."""

from __future__ import annotations

from allauth.account import views
from allauth.usersessions import views as sessions
from django.urls import URLPattern, path
from django.views.generic import RedirectView

urlpatterns: list[URLPattern] = [
    path("login/", views.login, name="account_login"),
    path("logout/", views.logout, name="account_logout"),
    path("signup/", views.signup, name="account_signup"),
    path("inactive/", views.account_inactive, name="account_inactive"),
    path("confirm-email/", views.email_verification_sent, name="account_email_verification_sent"),
    path("reauthenticate/", views.reauthenticate, name="account_reauthenticate"),
    # allauth sends people here who are signed in; addresses are shown on the account's own page.
    path("email/", RedirectView.as_view(pattern_name="accounts:account"), name="account_email"),
    path("password/set/", views.password_set, name="account_set_password"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("password/reset/", views.password_reset, name="account_reset_password"),
    path("password/reset/confirm/", views.confirm_password_reset_code, name="account_confirm_password_reset_code"),
    path("password/reset/complete/", views.complete_password_reset, name="account_complete_password_reset"),
    path("password/reset/done/", views.password_reset_from_key_done, name="account_password_reset_completed"),
    path("sessions/", sessions.list_usersessions, name="usersessions_list"),
]
