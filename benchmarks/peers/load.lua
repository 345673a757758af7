-- The load: the requests of a file, one after the other, over and over. A line of the file is
-- target, Host, name of the credential field and its value, and the request's number, with tabs
-- between.
local requests = {}
local last = 0

function init(args)
   for line in io.lines(args[1]) do
      local target, host, name, value, number =
         line:match("^([^\t]+)\t([^\t]+)\t([^\t]+)\t([^\t]+)\t([^\t]*)$")
      local fields = { Host = host, [name] = value }
      if number ~= "" then
         fields["X-Number"] = number
      end
      requests[#requests + 1] = wrk.format("GET", target, fields)
   end
end

function request()
   last = last % #requests + 1
   return requests[last]
end
