variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "encryption_key_arn" {
  description = "KMS key for the objects; empty: S3's own keys (SSE-S3)."
  type        = string
}
