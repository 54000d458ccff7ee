variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "prefix" {
  description = "What all keys begin with, without slashes around it; empty: the whole bucket."
  type        = string
  default     = ""
}

variable "channels" {
  description = "Names of the channels, such as [\"staging\", \"production\"]."
  type        = set(string)
}

variable "retention_mode" {
  description = "Object Lock: GOVERNANCE or COMPLIANCE."
  type        = string
  default     = "GOVERNANCE"
}

variable "retention_days" {
  description = "How long every object is held."
  type        = number
  default     = 90
}

variable "encryption_key_arn" {
  description = "KMS key for the objects; empty: S3's own keys."
  type        = string
  default     = ""
}

variable "work_bucket" {
  description = "Name of a bucket for base models, datasets, checkpoints and artifacts; empty: none is made."
  type        = string
  default     = ""
}

variable "oidc_provider" {
  description = "The cluster's OIDC provider in IAM: its ARN, and the issuer's URL. Needed where there are roles."
  type        = object({ arn = string, issuer = string })
  default     = null
}

variable "roles" {
  description = "Name of a role to the ServiceAccount that may take it, and its duties (keys of the output policy_arns)."
  type        = map(object({ namespace = string, service_account = string, policies = set(string) }))
  default     = {}
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
