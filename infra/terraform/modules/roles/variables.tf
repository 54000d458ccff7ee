variable "oidc_provider" {
  description = "The cluster's OIDC provider in IAM: its ARN, and the issuer's URL."
  type        = object({ arn = string, issuer = string })
}

variable "roles" {
  description = "Name of a role to the ServiceAccount that may take it, and the duties it has (keys of policy_arns)."
  type        = map(object({ namespace = string, service_account = string, policies = set(string) }))

  validation {
    condition     = alltrue([for role in var.roles : !strcontains("${role.namespace}${role.service_account}", "*")])
    error_message = "A role is one ServiceAccount's: no wildcards."
  }

  # A run of the pipeline must not reach the key that signs what a channel serves.
  validation {
    condition = alltrue([
      for role in var.roles : !(anytrue([for policy in role.policies : startswith(policy, "pipeline-")]) && anytrue([for policy in role.policies : startswith(policy, "sign-")]))
    ])
    error_message = "A role has the duty `pipeline-*` or `sign-*`, never both."
  }
}

variable "policy_arns" {
  description = "Duty to ARN of its policy."
  type        = map(string)
}

variable "name_prefix" {
  description = "What names of roles begin with."
  type        = string
  default     = "softprompt"
}

variable "tags" {
  description = "Tags of the roles."
  type        = map(string)
  default     = {}
}
