variable "bucket_arn" {
  description = "ARN of the bucket that channels live in."
  type        = string
}

variable "prefix" {
  description = "What all keys begin with, without slashes around it; empty: the whole bucket."
  type        = string
  default     = ""
}

variable "channels" {
  description = "Names of the channels."
  type        = set(string)
}

variable "name_prefix" {
  description = "What names of IAM policies begin with."
  type        = string
  default     = "softprompt"
}

variable "tags" {
  description = "Tags of the policies."
  type        = map(string)
  default     = {}
}
