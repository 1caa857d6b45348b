//! What operators ask about themselves: logins, accounts, tokens, certificates and the
//! audit log.

use super::{Client, Result, segment};
use crate::{
    AddOperator, ApiToken, AuditEntry, AuditHead, CertifyOperator, CreateApiToken, FinishOidc,
    Login, NewApiToken, Operator, OperatorCertificate, Revoked, SetPassword, SetRole, StartOidc,
    StartedOidc, WhoAmI,
};

impl Client {
    /// Who is asking, as the server sees it.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn who_am_i(&self) -> Result<WhoAmI> {
        self.get("/v1/whoami")
    }

    /// Logs in with a password; needs no token.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn login(&self, request: &Login) -> Result<NewApiToken> {
        self.post("/v1/login", request)
    }

    /// Ends the token that this client shows.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn logout(&self) -> Result<ApiToken> {
        self.post("/v1/logout", &())
    }

    /// Begins to log in at the OpenID Connect issuer; needs no token.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn start_oidc(&self, request: &StartOidc) -> Result<StartedOidc> {
        self.post("/v1/login/oidc/start", request)
    }

    /// Ends logging in at the OpenID Connect issuer; needs no token.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn finish_oidc(&self, request: &FinishOidc) -> Result<NewApiToken> {
        self.post("/v1/login/oidc/finish", request)
    }

    /// All accounts.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn operators(&self) -> Result<Vec<Operator>> {
        self.list("/v1/operators")
    }

    /// Makes an account.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn add_operator(&self, request: &AddOperator) -> Result<Operator> {
        self.post("/v1/operators", request)
    }

    /// Closes an account and ends what it has open, or opens it again.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn set_operator_disabled(&self, name: &str, disabled: bool) -> Result<Operator> {
        let what = if disabled { "disable" } else { "enable" };
        self.post(&format!("/v1/operators/{}/{what}", segment(name)), &())
    }

    /// Gives an account another role.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn set_operator_role(&self, name: &str, request: &SetRole) -> Result<Operator> {
        self.post(&format!("/v1/operators/{}/role", segment(name)), request)
    }

    /// Gives an account another password.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn set_operator_password(&self, name: &str, request: &SetPassword) -> Result<Operator> {
        self.post(
            &format!("/v1/operators/{}/password", segment(name)),
            request,
        )
    }

    /// Makes a token for a program.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn create_api_token(&self, request: &CreateApiToken) -> Result<NewApiToken> {
        self.post("/v1/api-tokens", request)
    }

    /// Tokens that let their bearers in, without their secrets: an admin sees everybody's.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn api_tokens(&self) -> Result<Vec<ApiToken>> {
        self.list("/v1/api-tokens")
    }

    /// Ends a token.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn revoke_api_token(&self, id: &str) -> Result<ApiToken> {
        self.post(&format!("/v1/api-tokens/{}/revoke", segment(id)), &())
    }

    /// Entries of the audit log above number `after`, oldest first.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>> {
        self.list(&format!("/v1/audit?after={after}&limit={limit}"))
    }

    /// The newest entry of the audit log, signed.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn audit_head(&self) -> Result<AuditHead> {
        self.get("/v1/audit/head")
    }

    /// Certifies an operator's key.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn certify_operator(&self, request: &CertifyOperator) -> Result<OperatorCertificate> {
        self.post("/v1/certificates", request)
    }

    /// Takes back all certificates of an operator.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub fn revoke_operator(&self, name: &str) -> Result<Revoked> {
        self.post(&format!("/v1/certificates/{}/revoke", segment(name)), &())
    }
}
