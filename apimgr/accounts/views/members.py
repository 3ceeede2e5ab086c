from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apimgr.accounts import selectors, services
from apimgr.accounts.access import Permission
from apimgr.accounts.forms.console import InvitationForm, roles_of
from apimgr.accounts.models import Invitation, Organisation
from apimgr.accounts.views.common import user_of
from apimgr.core.errors import DomainError
from apimgr.core.forms import show_error


@login_required
@require_GET
def members(request: HttpRequest, slug: str) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug)
    return _page(request, organisation, InvitationForm(organisation=organisation))


@login_required
@require_POST
def invite(request: HttpRequest, slug: str) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug, Permission.MEMBER_MANAGE)
    form = InvitationForm(request.POST, organisation=organisation)
    if form.is_valid():
        try:
            invitation = services.invite_member(actor=user_of(request), organisation=organisation, **form.cleaned_data)
        except DomainError as error:
            show_error(form, error)
        else:
            messages.success(request, _("Invitation sent to %(email)s.") % {"email": invitation.email})
            return redirect("accounts:members", slug=slug)
    return _page(request, organisation, form)


def _page(request: HttpRequest, organisation: Organisation, form: InvitationForm) -> HttpResponse:
    context = {
        "organisation": organisation,
        "members": selectors.members(request.user, organisation),
        "invitations": selectors.invitations(request.user, organisation),
        "may_manage": selectors.may(request.user, Permission.MEMBER_MANAGE, organisation),
        "may_audit": selectors.may(request.user, Permission.AUDIT_VIEW, organisation),
        "roles": roles_of(organisation),
        "form": form,
    }
    return render(request, "accounts/members.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def change_role(request: HttpRequest, slug: str, membership_id: int) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug)
    membership = get_object_or_404(selectors.members(request.user, organisation), pk=membership_id)
    try:
        services.change_role(actor=user_of(request), membership=membership, role=request.POST.get("role", ""))
    except DomainError as error:
        if error.status == 403:
            raise
        messages.error(request, error.in_full)
    else:
        messages.success(request, _("Role of %(user)s changed.") % {"user": membership.user})
    return redirect("accounts:members", slug=slug)


@login_required
@require_POST
def remove(request: HttpRequest, slug: str, membership_id: int) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug)
    membership = get_object_or_404(selectors.members(request.user, organisation), pk=membership_id)
    try:
        services.remove_member(actor=user_of(request), membership=membership)
    except DomainError as error:
        if error.status == 403:
            raise
        messages.error(request, error.in_full)
        return redirect("accounts:members", slug=slug)
    if membership.user_id == request.user.pk:
        messages.success(request, _("You have left %(organisation)s.") % {"organisation": organisation})
        return redirect("home")
    messages.success(request, _("%(user)s is no longer a member.") % {"user": membership.user})
    return redirect("accounts:members", slug=slug)


@login_required
@require_POST
def withdraw(request: HttpRequest, slug: str, invitation_id: int) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug, Permission.MEMBER_MANAGE)
    found = Invitation.objects.filter(organisation=organisation, accepted_at=None)
    invitation = get_object_or_404(found.select_related("organisation"), pk=invitation_id)
    services.withdraw_invitation(actor=user_of(request), invitation=invitation)
    messages.success(request, _("Invitation of %(email)s withdrawn.") % {"email": invitation.email})
    return redirect("accounts:members", slug=slug)


@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind the link in the mail: says what is offered, and to whom; a button accepts it."""
    found = services.invitation_by_token(token)
    context = {"invitation": found, "is_theirs": getattr(request.user, "email", "") == found.email}
    if request.method == "POST" and request.user.is_authenticated:
        services.accept_invitation(actor=user_of(request), invitation=found)
        messages.success(request, _("You are now a member of %(organisation)s.") % {"organisation": found.organisation})
        return redirect("accounts:members", slug=found.organisation.slug)
    return render(request, "accounts/invitation.html", context)
