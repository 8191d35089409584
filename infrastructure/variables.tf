variable "region" {
  description = "Where everything lies. No default: the models and the sites' updates are kept there."
  type        = string
}

variable "name" {
  description = "What every resource's name begins with; one account may hold several."
  type        = string
  default     = "meshnet"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "A name has 3 to 24 small letters, digits and dashes, and begins with a letter: buckets ask for it."
  }

  validation {
    condition     = !can(regex("aws|amazon|cognito", var.name))
    error_message = "A name holds none of 'aws', 'amazon' and 'cognito': Cognito takes no such domain."
  }
}

variable "endpoint" {
  description = "The address of an emulator of AWS. Empty: AWS itself."
  type        = string
  default     = ""

  validation {
    condition     = var.endpoint == "" || can(regex("^http://(127\\.0\\.0\\.1|localhost|\\[::1\\]):[0-9]+$", var.endpoint))
    error_message = "An emulator is an address of this machine, such as http://127.0.0.1:4570: it is spoken to without TLS."
  }
}

variable "api_package" {
  description = "The zip that `python -m infrastructure.package` builds."
  type        = string
  default     = "../build/api.zip"
}

variable "aggregator_image" {
  description = "The product's own container image in ECR, with its digest: it combines what the sites send."
  type        = string
  default     = ""

  validation {
    condition     = (var.aggregator_image == "") != (var.aggregator_package == "")
    error_message = "Give aggregator_image, or, on an emulator that runs no images, aggregator_package; not both."
  }
}

variable "aggregator_package" {
  description = "A zip in place of the image, for an emulator. PyTorch does not fit into a Lambda's zip."
  type        = string
  default     = ""
}

variable "runtime" {
  description = "The Python that the zip was built for."
  type        = string
  default     = "python3.13"

  validation {
    condition     = can(regex("^python3\\.1[0-4]$", var.runtime))
    error_message = "A runtime is python3.10 to python3.14, the same that the zip was built for."
  }
}

variable "architecture" {
  description = "The processors that the zip and the image were built for."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "A Lambda runs on x86_64 or arm64."
  }
}

variable "api_memory" {
  description = "MB of an API Lambda; its share of a processor grows with it."
  type        = number
  default     = 1024
}

variable "aggregator_memory" {
  description = "MB of an aggregator: PyTorch, and as many models as sites."
  type        = number
  default     = 3008
}

variable "aggregators" {
  description = "How many aggregators may run at once. One run needs one at a time."
  type        = number
  default     = 4

  validation {
    condition     = var.aggregators >= 2 && var.aggregators <= 1000
    error_message = "AWS wants 2 to 1000 here."
  }
}

variable "throttle" {
  description = "Requests per second, and how many at once, that all clients together may make."
  type        = object({ rate = number, burst = number })
  default     = { rate = 100, burst = 200 }

  validation {
    condition     = var.throttle.rate > 0 && var.throttle.burst >= var.throttle.rate
    error_message = "The rate is above 0 and the burst no smaller than it."
  }
}

variable "log_days" {
  description = "How long logs are kept."
  type        = number
  default     = 90
}

variable "update_days" {
  description = "How long a single site's update is kept. Models and means stay."
  type        = number
  default     = 7

  validation {
    condition     = var.update_days >= 1
    error_message = "An update must outlive its step: a day at least."
  }
}

variable "stuck_minutes" {
  description = "How long a step may be overdue before the alarm."
  type        = number
  default     = 15

  validation {
    condition     = var.stuck_minutes >= 1
    error_message = "The schedule looks once a minute."
  }
}

variable "mfa" {
  description = "Second factor, by an app that makes codes: OFF, OPTIONAL or ON. With ON, sites come by a refresh token: a machine has none."
  type        = string
  default     = "OPTIONAL"

  validation {
    condition     = contains(["OFF", "OPTIONAL", "ON"], var.mfa)
    error_message = "Say OFF, OPTIONAL or ON."
  }
}

variable "domain" {
  description = "A name of your own for API and pages, and the ARN of its certificate in ACM, in the same region. Not given: the gateway's."
  type        = object({ name = string, certificate = string })
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain.name))
    error_message = "A domain is a name such as meshnet.example.org, in small letters: no address, no path."
  }

  validation {
    condition     = var.domain == null || can(regex("^arn:aws[a-z-]*:acm:${var.region}:[0-9]{12}:certificate/", var.domain.certificate))
    error_message = "The certificate is an ARN of ACM in the same region as everything else."
  }

  validation {
    condition     = var.endpoint == "" || (var.domain == null && var.sign_in_domain == null)
    error_message = "An emulator has no domain."
  }
}

variable "sign_in_domain" {
  description = "The same for the pages at which people sign in; its certificate lies in us-east-1, wherever all else is."
  type        = object({ name = string, certificate = string })
  default     = null

  validation {
    condition     = var.sign_in_domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.sign_in_domain.name))
    error_message = "A domain is a name such as login.meshnet.example.org, in small letters: no address, no path."
  }

  validation {
    condition     = var.sign_in_domain == null || can(regex("^arn:aws[a-z-]*:acm:us-east-1:[0-9]{12}:certificate/", var.sign_in_domain.certificate))
    error_message = "Cognito wants the certificate of its pages as an ARN of ACM in us-east-1."
  }
}

variable "refresh_days" {
  description = "How long a site stays signed in without its password."
  type        = number
  default     = 30

  validation {
    condition     = var.refresh_days >= 1 && var.refresh_days <= 3650
    error_message = "Cognito takes 1 to 3650 days."
  }
}

variable "point_in_time_recovery" {
  description = "Whether the table can be set back to any second of the last 35 days."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Whether table and user pool refuse to be destroyed."
  type        = bool
  default     = true
}

variable "destroy_data" {
  description = "Whether `terraform destroy` may delete a bucket that still holds models."
  type        = bool
  default     = false
}

variable "alarms" {
  description = "Whether there are alarms."
  type        = bool
  default     = true
}

variable "alarm_topics" {
  description = "SNS topics that alarms tell."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
