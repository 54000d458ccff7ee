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

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
