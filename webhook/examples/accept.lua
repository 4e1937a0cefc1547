-- A signed body of 2 KiB, and a delivery id of its own for every request. For wrk.
local body = string.rep("x", 2048)
local signature = "sha256=31bf52fb6b9a9978586672f00af59336f9961b1286148cd8c12be29fe47ec5f7"
local thread_count = 0
local id = 0

function setup(thread)
  thread_count = thread_count + 1
  thread:set("number", thread_count)
end

function request()
  id = id + 1
  return wrk.format("POST", nil, {
    ["content-type"] = "application/json",
    ["x-hub-signature-256"] = signature,
    ["x-github-delivery"] = number .. "-" .. os.time() .. "-" .. id,
  }, body)
end
