variable "name" {
  description = "Name of the bucket."
  type        = string
}

variable "prefix" {
  description = "What all keys begin with, without slashes around it; empty: the whole bucket."
  type        = string
  default     = ""
}

variable "retention_mode" {
  description = "GOVERNANCE (somebody with s3:BypassGovernanceRetention may shorten it) or COMPLIANCE (nobody may)."
  type        = string
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.retention_mode)
    error_message = "retention_mode is GOVERNANCE or COMPLIANCE."
  }
}

variable "retention_days" {
  description = "How long every object is held; at least the 90 days within which a channel may roll back."
  type        = number
  default     = 90
}

variable "noncurrent_days" {
  description = "How long replaced and collected blobs can still be brought back."
  type        = number
  default     = 30
}

variable "proposal_days" {
  description = "How long a pipeline's proposals wait for somebody to take them over."
  type        = number
  default     = 90
}

variable "encryption_key_arn" {
  description = "KMS key for the objects; empty: S3's own keys (SSE-S3)."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of the bucket."
  type        = map(string)
  default     = {}
}
