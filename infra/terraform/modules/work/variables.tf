variable "name" {
  description = "Name of the bucket."
  type        = string
}

variable "checkpoint_days" {
  description = "How long checkpoints of trainings are kept."
  type        = number
  default     = 14
}

variable "encryption_key_arn" {
  description = "KMS key for the objects; empty: S3's own keys (SSE-S3)."
  type        = string
  default     = ""
}

variable "name_prefix" {
  description = "What names of IAM policies begin with."
  type        = string
  default     = "softprompt"
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
